"""Prompts as batches."""

from __future__ import annotations

from unlearn.models.prompts import collate


def test_batches_are_padded_on_the_right() -> None:
    batch = collate([(5, 6, 7), (8,)], "cpu")
    assert batch.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.position.tolist() == [2, 0]
    assert batch.index.tolist() == [2, 3]
