from __future__ import annotations

import pytest
import torch

from unlearn.methods.reduction import reduce_rows


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sequence_sum", [6.0, 2.0]), ("sequence_mean", [2.0, 2.0]), ("pooled_token", [8 / 4, 8 / 4])],
)
def test_by_hand(reduction, expected: list[float]) -> None:
    assert reduce_rows(torch.tensor([6.0, 2.0]), torch.tensor([3, 1]), reduction).tolist() == expected


def test_pooling_and_sequence_means_differ_where_lengths_do() -> None:
    sums, counts = torch.tensor([6.0, 4.0]), torch.tensor([3, 1])
    assert reduce_rows(sums, counts, "sequence_mean").mean() == 3
    assert reduce_rows(sums, counts, "pooled_token").tolist() == [2.5, 2.5]


@pytest.mark.parametrize("reduction", ["sequence_sum", "sequence_mean", "pooled_token"])
def test_no_rows_give_no_numbers(reduction) -> None:
    assert reduce_rows(torch.zeros(0), torch.zeros(0, dtype=torch.long), reduction).shape == (0,)
