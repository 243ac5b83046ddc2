"""The k highest scores, against sorting them all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unlearn.localize.weights import threshold
from unlearn.localize.weights.threshold import select
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.models.mask import Mask

FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 2.0, 1e-45, 3e38]),  # ties, signs, subnormals, the largest
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
TENSORS = st.lists(st.lists(FLOATS, min_size=1, max_size=40), min_size=1, max_size=5)


def by_sorting(scores: dict[str, Tensor], count: int) -> dict[str, list[bool]]:
    """Which scores are selected: a stable sort keeps equal ones in their order."""
    flat = [(name, i) for name, score in scores.items() for i in range(score.numel())]
    order = sorted(flat, key=lambda place: -abs(scores[place[0]].flatten()[place[1]].item()))
    chosen = set(order[:count])
    return {name: [(name, i) in chosen for i in range(score.numel())] for name, score in scores.items()}


def as_lists(mask: Mask, names: list[str]) -> dict[str, list[bool]]:
    return {name: mask.bits(name).flatten().tolist() for name in names}


@settings(deadline=None)
@given(TENSORS, st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.sampled_from([8, 16, 1 << 18]))
def test_the_same_as_a_full_sort(values: list[list[float]], fractions: list[float], chunk: int) -> None:
    scores = {f"t{i}": torch.tensor(value) for i, value in enumerate(values)}
    shapes = {name: tuple(score.shape) for name, score in scores.items()} | {"unscored": (3,)}
    total = sum(map(len, values))
    fractions = [max(fraction, 1 / total) for fraction in fractions]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threshold, "CHUNK_CPU", chunk)
        selections = select(shapes, list(scores), scores.__getitem__, fractions)
    magnitudes = sorted((abs(v) for value in values for v in torch.tensor(value).tolist()), reverse=True)
    for fraction, selection in zip(fractions, selections, strict=True):
        count = math.floor(total * fraction)
        assert as_lists(selection.mask, list(scores)) == by_sorting(scores, count)
        assert selection.mask.tensors["unscored"] is False
        assert selection.mask.selected == count
        assert selection.scored == total
        if any(math.floor(total * f) < total for f in fractions):  # otherwise no score is asked for
            assert selection.threshold == magnitudes[count - 1]
            assert selection.zeros == magnitudes.count(0)
            assert selection.zeros_selected == max(0, count - total + magnitudes.count(0))


def test_ties_go_by_tensor_and_position() -> None:
    """By hand: of seven scores four are selected, 5 and 4, and the first two of the four that are 3."""
    scores = {"a": torch.tensor([[3.0, 5.0], [1.0, 3.0]]), "b": torch.tensor([3.0, 4.0, 3.0])}
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    (selection,) = select(shapes, ["a", "b"], scores.__getitem__, [4 / 7])
    assert selection.mask.bits("a").tolist() == [[True, True], [False, True]]
    assert selection.mask.bits("b").tolist() == [False, True, False]
    assert selection.threshold == 3
    assert selection.zeros_selected == 0


def test_zeros_come_last_and_are_counted() -> None:
    scores = {"a": torch.tensor([0.0, 2.0, -0.0, 0.0]), "b": torch.tensor([1e-45, 0.0])}
    few, many = select({"a": (4,), "b": (2,)}, ["a", "b"], scores.__getitem__, [2 / 6, 4 / 6])
    assert as_lists(few.mask, ["a", "b"]) == {"a": [False, True, False, False], "b": [True, False]}
    assert (few.zeros, few.zeros_selected) == (4, 0)
    assert as_lists(many.mask, ["a", "b"]) == {"a": [True, True, True, False], "b": [True, False]}
    assert (many.zeros, many.zeros_selected, many.threshold) == (4, 2, 0)


def test_the_count_is_the_floor_of_the_float_product() -> None:
    scores = torch.rand(100, generator=torch.Generator().manual_seed(0))
    (selection,) = select({"a": (100,)}, ["a"], lambda name: scores, [0.29])  # 100 * 0.29 = 28.999999999999996
    assert selection.mask.selected == 28


def test_everything_costs_nothing() -> None:
    def score(name: str) -> Tensor:
        raise AssertionError("asked for scores")

    first, second = select({"a": (4,), "b": (2,)}, ["b"], score, [1.0, 1.0])
    assert first.mask.tensors == second.mask.tensors == {"a": False, "b": True}


def test_scores_are_asked_for_one_tensor_at_a_time_three_times() -> None:
    asked: list[str] = []

    def score(name: str) -> Tensor:
        asked.append(name)
        return torch.arange(4.0)

    select({"a": (4,), "b": (4,)}, ["a", "b"], score, [0.1, 0.5, 0.9, 1.0][1:])
    assert asked == ["a", "b"] * 3


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_score_that_is_not_finite(bad: float) -> None:
    scores = {"fine": torch.ones(3), "broken": torch.tensor([1.0, bad])}
    with pytest.raises(UserError, match="'broken'"):
        select({"fine": (3,), "broken": (2,)}, ["fine", "broken"], scores.__getitem__, [0.5])


def test_a_fraction_of_less_than_one_weight() -> None:
    with pytest.raises(UserError, match=r"0\.1 to select is less than one weight: 9 weights"):
        select({"a": (9,)}, ["a"], lambda name: torch.ones(9), [0.5, 0.1])
