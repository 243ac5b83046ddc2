"""Sums over the processes of a training, once an optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.runtime import distributed
from unlearn.training.objective import Shard

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_BUCKET = 2**25  # numbers sent at once: 128 MiB in float32


def shard() -> Shard:
    """Return this process's share of every step."""
    return Shard(distributed.rank(), distributed.world_size())


def sum_gradients(parameters: Collection[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place and in few large messages; a plain run does nothing.

    A gradient that only some of the processes have counts as 0 on the others.
    """
    if distributed.world_size() == 1 or not parameters:
        return
    there = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=_device(parameters))
    torch.distributed.all_reduce(there, torch.distributed.ReduceOp.MAX)
    mine: list[Tensor] = []
    for parameter, wanted in zip(parameters, there.tolist(), strict=True):
        if wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            mine.append(parameter.grad)
    for bucket in _buckets(mine):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        torch.distributed.all_reduce(flat)
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def sum_losses(losses: dict[str, Tensor]) -> dict[str, float]:
    """Return the sums over all processes of scalars that all of them have."""
    if distributed.world_size() > 1 and losses:
        stacked = torch.stack(list(losses.values()))
        torch.distributed.all_reduce(stacked)
        return dict(zip(losses, stacked.tolist(), strict=True))
    return {name: value.item() for name, value in losses.items()}


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the gradients in runs of one dtype and of at most `_BUCKET` numbers, where one alone is not larger."""
    buckets: list[list[Tensor]] = []
    size = 0
    for gradient in gradients:
        if not buckets or gradient.dtype != buckets[-1][-1].dtype or size + gradient.numel() > _BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.numel()
    return buckets


def _device(parameters: Collection[nn.Parameter]) -> torch.device:
    return next(iter(parameters)).device
