"""Batches of like length within a budget, made smaller where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")
Kind = TypeVar("Kind", bound=Hashable)


def map_batches(
    function: Callable[[list[Row]], list[Answer]],
    rows: Sequence[Row],
    length: Callable[[Row], int],
    token_budget: int,
    share: Callable[[Row], float] = lambda row: 0.0,
    progress: Callable[[int], object] | None = None,
) -> list[Answer]:
    """Apply `function` to batches of `rows` and return its answers in the order of `rows`.

    Rows go longest first, so that a budget too large for the memory shows at once. A batch holds at most `token_budget`
    padded tokens (rows x longest length), and the `share`s of its rows in some other resource sum to at most 1; a row
    that is too large alone still gets its batch. Where a batch does not fit in memory, it and those after it are cut by
    half; the error is raised only where a single row does not fit. progress: called with each batch's number of rows.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    lengths = [max(1, length(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    answers: dict[int, Answer] = {}
    while remaining := order[len(answers) :]:
        batch, used = [remaining[0]], share(rows[remaining[0]])
        most = token_budget // lengths[remaining[0]]
        for i in remaining[1:most]:
            if (used := used + share(rows[i])) > 1:
                break
            batch.append(i)
        try:
            done = dict(zip(batch, function([rows[i] for i in batch]), strict=True))
        except RuntimeError as error:
            if len(batch) == 1 or not should_reduce_batch_size(error):
                raise
            token_budget, done = len(batch) * lengths[batch[0]] // 2, {}
        if not done:  # by now the traceback no longer holds the tensors of the batch that did not fit
            _free_memory()
        elif progress:
            progress(len(done))
        answers |= done
    return [answers[i] for i in range(len(rows))]


def map_kinds(
    function: Callable[[Kind, list[Row]], Sequence[Answer]], rows: Sequence[Row], kind: Callable[[Row], Kind]
) -> list[Answer]:
    """Return the answers of `function` to all rows of a kind at once, for each kind; in the order of `rows`."""
    places: dict[Kind, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(kind(row), []).append(i)
    answers: dict[int, Answer] = {}
    for each, mine in places.items():
        answers |= zip(mine, function(each, [rows[i] for i in mine]), strict=True)
    return [answers[i] for i in range(len(rows))]


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
