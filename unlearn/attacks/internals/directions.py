"""Directions in the residual stream: found between two sets of states, and taken out while a model runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.layout import layout
from unlearn.models.prompts import collate
from unlearn.models.sites import Edit, at_rest, capture, edited
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OUTLIER = 3.0  # standard deviations


def difference(these: Tensor, those: Tensor) -> Tensor:
    """Return unit vectors [L, d] along mean(these) - mean(those), [L, n, d] and [L, m, d]; 0 where they agree."""
    return _unit(these.mean(1) - those.mean(1))


def component(these: Tensor, those: Tensor) -> Tensor:
    """Return the first principal component [L, d] (unit vectors) of states [L, n, d] and [L, m, d] together."""
    both = torch.cat([these, those], 1)
    found: Tensor = torch.linalg.svd(both - both.mean(1, keepdim=True), full_matrices=False).Vh[:, 0]
    return found


def token_states(
    model: nn.Module, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], token_budget: int
) -> Tensor:
    """Return what each decoder block gives at the places of each row: float32 [L, n, d] on the CPU, n places in all."""
    parts, device = layout(model), next(model.parameters()).device
    keys = [(layer, "resid") for layer in range(len(parts.blocks))]

    def read(batch: list[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
        seen = capture(model, parts, keys, collate([row for row, _ in batch], device))[1]
        states = torch.stack([seen[key].flatten(2) for key in keys])  # [L, B, T, d]
        found_at = (states[:, i, torch.tensor(where, dtype=torch.long)] for i, (_, where) in enumerate(batch))
        return [there.float().cpu() for there in found_at]

    budget = max(1, token_budget // len(keys))  # all layers' states of a batch are held
    with at_rest(model):
        found = map_batches(read, list(zip(rows, places, strict=True)), lambda pair: len(pair[0]), budget)
    return torch.cat(found, 1)


def typical(states: Tensor) -> Tensor:
    """Return [n], False for outliers among states [n, d]: the z-score of their L1 distance from the mean is above 3."""
    distance = (states - states.mean(0)).abs().sum(-1)
    return distance <= distance.mean() + OUTLIER * distance.std(correction=0)


@contextmanager
def ablated(model: nn.Module, directions: Tensor) -> Iterator[None]:
    """While active, what block l gives at any token has no part along directions[l] [L, d], unit vectors or 0."""

    def without(direction: Tensor) -> Edit:
        def edit(states: Tensor) -> Tensor:
            along = direction.to(states.device, states.dtype)
            return states - (states @ along)[..., None] * along

        return edit

    blocks = layout(model).blocks
    sites = [block.sites["resid"] for block in blocks]
    with edited(*((site, without(direction)) for site, direction in zip(sites, directions, strict=True))):
        yield


def _unit(vectors: Tensor) -> Tensor:
    size = vectors.norm(dim=-1, keepdim=True)
    return torch.where(size > 0, vectors / size.clamp_min(torch.finfo(vectors.dtype).tiny), 0.0)
