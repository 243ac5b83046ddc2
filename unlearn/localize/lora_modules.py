"""Which matrices get adapters under a mask: an adapter changes its whole matrix, so it cannot follow single weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from unlearn.models.mask import Mask


def adapted(model: nn.Module, mask: Mask, modules: Sequence[str]) -> list[str]:
    """Return those of the linear modules that are selected as a whole, or at least as much as the model is on average.

    UserError where there is none, or where the mask is another model's.
    """
    mask.check_fits(model)
    least = max(mask.fraction, 1 / mask.total)  # an empty mask has no adapters
    chosen = [name for name in modules if mask.share(f"{name}.weight") >= least]
    if not chosen:
        raise UserError("localize= selects no linear module that lora.targets names: there is nothing to train")
    return chosen
