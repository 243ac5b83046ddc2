"""From the nll of tokens to the one number a row that preference losses compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["sequence_sum", "sequence_mean", "pooled_token"]


def reduce_rows(sums: Tensor, counts: Tensor, reduction: Reduction) -> Tensor:
    """One number a row, [rows], from its summed nll S_b [rows] (nats) and its number of targets n_b [rows].

    "sequence_sum": S_b. "sequence_mean": S_b / n_b. "pooled_token": sum_b S_b / sum_b n_b, the same number for every
    row of the micro-batch. Under a loss that is not linear, this last one depends on how a step is split into
    micro-batches, each of which then counts by its share of the step's rows.
    """
    if reduction == "sequence_sum":
        return sums
    if reduction == "sequence_mean":
        return sums / counts
    return (sums.sum() / counts.sum()).expand_as(sums)
