"""How much single weights matter to single rows, and which of a matrix's weights matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn.models.batches import micro_batches
from unlearn.models.gradients import gradients_to
from unlearn.models.linear import linear_weights
from unlearn.models.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from unlearn.data.prompt import Encoded


def weight_scores(model: PreTrainedModel, rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """Return the mean over rows of |w dL/dw| for the weights of linear maps but the vocabulary projection, float32.

    L: a row's mean answer-token nll (nats). By parameter, shaped like it. Gradients are taken row by row, as signs of
    different rows must not cancel, and freed as soon as they are final. The model is given back as it was.
    """
    names = {name for name, _ in linear_weights(model)}
    parameters = {name: p for name, p in model.named_parameters() if name in names}
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}

    def take(name: str, gradient: Tensor) -> None:
        sums[name].add_(gradient.abs())

    with gradients_to(model, parameters, take):
        policy = Policy(model)
        for row in rows:
            (batch,) = micro_batches([row], {"rows": [0]}, len(row.ids))
            policy(batch.to(model.device))["rows"].token_mean().backward()
    with torch.no_grad():
        return {name: sums[name].div_(len(rows)).mul_(p.abs()) for name, p in parameters.items()}


def ranks(scores: Tensor, shares: Sequence[float]) -> Tensor:
    """Return for each weight the number of the first share whose top holds it, len(shares) where none does: uint8.

    shares: ascending; the top of a share are the floor(share * n) highest of the n scores (with what equals the last of
    them), but never a score of 0.
    """
    counts = [int(share * scores.numel()) for share in shares]
    highest = torch.topk(scores.flatten(), max(counts[-1], 1)).values
    lowest = [highest[count - 1].clamp_min(1e-45) if count else highest.new_tensor(torch.inf) for count in counts]
    return torch.stack([scores < bound for bound in lowest]).sum(0, dtype=torch.uint8)


def magnitude_cut(weights: Sequence[Tensor], share: float) -> float:
    """Return the magnitude that floor(share * n) of the n weights of all matrices together do not exceed; -1 for none.

    Found by bisection over float32 bit patterns (which are in the order of the magnitudes), one pass over the weights
    for each of 31 bits: the weights are never sorted nor held twice.
    """
    wanted = int(share * sum(weight.numel() for weight in weights))
    if not wanted:
        return -1.0
    low, high = 0, 0x7F800000
    while low < high:
        middle = (low + high) // 2
        below = sum(int((weight.float().abs().view(torch.int32) <= middle).sum()) for weight in weights)
        low, high = (low, middle) if below >= wanted else (middle + 1, high)
    return torch.tensor(low, dtype=torch.int32).view(torch.float32).item()
