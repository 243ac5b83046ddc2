"""Gradients and masks as one would write them without regard to memory: what the localizers are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.data.prompt import Encoded
    from unlearn.models.mask import Mask


def row_gradients(model: Any, rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """By parameter the gradients [rows, *shape] of each row's own mean nll of its answer tokens."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients: dict[str, list[Tensor]] = {name: [] for name in names}
    for row in rows:
        log_p = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        answer = range(max(1, row.n_prompt), len(row.ids))
        loss = -sum(log_p[t - 1, row.ids[t]] for t in answer) / len(answer)
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            gradients[name].append(gradient)
    return {name: torch.stack(each) for name, each in gradients.items()}


def mean(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Over rows."""
    return {name: gradient.mean(0) for name, gradient in gradients.items()}


def assert_highest(mask: Mask, scores: Mapping[str, Tensor], fraction: float) -> None:
    """The mask has floor(fraction N) weights, and no score outside it is higher than one inside, but for rounding."""
    inside = torch.cat([scores[name].detach().abs()[mask.bits(name)] for name in scores])
    outside = torch.cat([scores[name].detach().abs()[~mask.bits(name)] for name in scores])
    assert len(inside) == mask.selected == int((len(inside) + len(outside)) * fraction)
    assert inside.min() >= outside.max() * (1 - 1e-4)
