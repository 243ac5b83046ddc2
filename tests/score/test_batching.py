from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.score.batching import map_batches


@given(st.lists(st.integers(1, 40)), st.integers(1, 100), st.floats(0.05, 1.5))
def test_answers_keep_their_order_and_batches_their_budget(lengths: list[int], budget: int, share: float) -> None:
    batches: list[list[int]] = []
    done: list[int] = []

    def double(batch: list[int]) -> list[int]:
        batches.append(batch)
        return [2 * row for row in batch]

    doubled = map_batches(double, lengths, lambda row: row, budget, share=lambda row: share, progress=done.append)
    assert doubled == [2 * row for row in lengths]
    assert done == [len(batch) for batch in batches]
    assert [row for batch in batches for row in batch] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or (len(batch) * max(batch) <= budget and len(batch) * share <= 1 + 1e-9)


def test_a_batch_takes_what_the_budget_allows() -> None:
    sizes: list[int] = []

    def seen(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return batch

    map_batches(seen, [5] * 10, lambda row: row, 20)
    assert sizes == [4, 4, 2]


def test_batches_shrink_until_they_fit_in_memory() -> None:
    tried: list[int] = []

    def fits_three(batch: list[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return batch

    rows = list(range(100, 120))
    assert map_batches(fits_three, rows, lambda row: 10, 160) == rows
    assert tried == [16, 8, 4, *[2] * 10]


@pytest.mark.parametrize(
    ("rows", "message"), [([1], "CUDA out of memory. Tried to allocate 1 GiB"), ([1, 2], "some other failure")]
)
def test_other_errors_and_single_rows_that_do_not_fit_are_raised(rows: list[int], message: str) -> None:
    def fail(batch: list[int]) -> list[int]:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message[:10]):
        map_batches(fail, rows, lambda row: 1, 10)
