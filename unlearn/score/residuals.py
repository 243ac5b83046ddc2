"""What a model holds at the last token of prompts, layer by layer: what lenses and probes read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.layout import layout
from unlearn.models.prompts import collate
from unlearn.models.sites import Edit, at_rest, edited, logits_at
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def last_residuals(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Return what each decoder block gives at each prompt's last token: float32 [layers, prompts, d] on the CPU."""
    return last_values(model, prompts, token_budget, ("resid",), progress)[0]


def last_values(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    token_budget: int,
    sites: Sequence[str],
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Return what sites as wide as the residual stream (see models/layout.py) hold there, all from one forward.

    float32 [sites, layers, prompts, d] on the CPU.
    """
    blocks, device = layout(model).blocks, next(model.parameters()).device
    keys = [(site, layer) for site in sites for layer in range(len(blocks))]

    def read(rows: list[Sequence[int]]) -> list[Tensor]:
        batch = collate(rows, device)
        seen: dict[tuple[str, int], Tensor] = {}

        def keep(key: tuple[str, int]) -> Edit:
            def last(values: Tensor) -> None:
                seen[key] = values.flatten(0, -2)[batch.index].float().cpu()

            return last

        with torch.no_grad(), edited(*((blocks[layer].sites[site], keep((site, layer))) for site, layer in keys)):
            logits_at(model, batch.ids, batch.index)
        return list(torch.stack([seen[key] for key in keys], 1))

    with at_rest(model):
        found = torch.stack(map_batches(read, prompts, len, token_budget, progress=progress), 1)
    result: Tensor = found.unflatten(0, (len(sites), len(blocks)))
    return result
