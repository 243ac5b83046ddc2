"""Reference log-probabilities, computed once: methods need one number a row, not a second model in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unlearn.models.batches import Batch, micro_batches
from unlearn.training.plan import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from unlearn.data.prompt import Encoded
    from unlearn.models.policy import Policy


def reference_nll(
    policy: Policy, rows: Sequence[Encoded], used: Sequence[int], micro_tokens: int, advance: Callable[[int], None]
) -> dict[int, float]:
    """Return the summed answer nll (nats) of each row number in `used` under the model as it is now."""
    device = next(policy.parameters()).device
    table: dict[int, float] = {}
    with torch.inference_mode():
        order = sorted(used, key=lambda row: len(rows[row].ids))
        for batch_rows, batch in _batches(rows, order, micro_tokens):
            sums = policy(batch.to(device))[ROWS].sums
            table.update(zip(batch_rows, sums.tolist(), strict=True))
            advance(len(batch_rows))
    return table


def _batches(rows: Sequence[Encoded], order: Sequence[int], micro_tokens: int) -> Iterator[tuple[Sequence[int], Batch]]:
    """Give micro-batches over `order` (ascending in length) with the row numbers of each."""
    start = 0
    for batch in micro_batches(rows, {ROWS: order}, micro_tokens):
        stop = start + len(batch.input_ids)
        yield order[start:stop], batch
        start = stop
