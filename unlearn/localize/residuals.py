"""The residual stream at the last token of prompts, layer by layer: what probes read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unlearn.localize.facts import collate
from unlearn.localize.sites import at_rest, edited, logits_at
from unlearn.models.layout import layout
from unlearn.score.batching import map_batches


def last_residuals(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """What each decoder block gives at each prompt's last token: float32 [layers, prompts, d] on the CPU."""
    blocks, device = layout(model).blocks, next(model.parameters()).device

    def read(rows: list[Sequence[int]]) -> list[Tensor]:
        batch, seen = collate(rows, device), []

        def last(residual: Tensor) -> None:
            seen.append(residual.flatten(0, 1)[batch.index].float().cpu())

        with torch.no_grad(), edited(*((block.sites["resid"], last) for block in blocks)):
            logits_at(model, batch.ids, batch.index)
        return list(torch.stack(seen, 1))

    with at_rest(model):
        return torch.stack(map_batches(read, prompts, len, token_budget, progress=progress), 1)
