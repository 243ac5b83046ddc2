from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.metrics.truth_ratio import TruthRatio, closer_to_one, ratio, true_better

RIGHT, LIKELY_WRONG = {"answer": [-9], "paraphrase": [-1, -3], "perturbed": [[-1], [-4, -6]]}, {"answer": [-5]}
R = math.exp(-3) / math.exp(-2)  # the wrong answers' mean losses are 1 and 5
ITEMS = [RIGHT, {"answer": [-4], "perturbed": [[-1]]}]  # without a paraphrase the answer counts; here r = e^3 > 1


def test_forget_sets_are_best_where_right_and_wrong_are_alike(make_scores) -> None:
    [result] = TruthRatio()(make_scores(forget=ITEMS), {})
    assert result.key == "forget/truth_ratio"
    assert result.items == pytest.approx([R, math.exp(-3)], rel=1e-6)
    assert result.value == pytest.approx((R + math.exp(-3)) / 2, rel=1e-6)


@pytest.mark.parametrize("probe", ["retain", "world"])
def test_other_sets_are_best_where_only_the_right_answer_is_likely(make_scores, probe: str) -> None:
    [result] = TruthRatio()(make_scores(**{probe: ITEMS}), {})
    assert result.items == pytest.approx([1 - R, 0], rel=1e-6)


@pytest.mark.parametrize("probe", ["forget", "retain"])
def test_prob_mean(make_scores, probe: str) -> None:
    [result] = TruthRatio("prob_mean")(make_scores(**{probe: ITEMS[:1]}), {})
    assert result.name == "truth_ratio_prob_mean"
    assert result.value == pytest.approx(math.exp(-2) / (math.exp(-2) + math.exp(-3)))


def test_sets_without_wrong_answers_are_left_out(make_scores) -> None:
    scores = make_scores(forget=[LIKELY_WRONG], retain=[RIGHT], holdout=[RIGHT])
    assert [result.probe for result in TruthRatio()(scores, {})] == ["retain"]


@given(st.floats(-40, 0), st.floats(-40, 0))
def test_values_lie_between_0_and_1_even_for_a_collapsed_model(right: float, wrong: float) -> None:
    r = ratio(np.exp(right), np.exp(wrong))
    assert 0 <= closer_to_one(r) <= 1
    assert 0 <= true_better(r) <= 1
    if right > -10:
        assert r == pytest.approx(math.exp(wrong - right), rel=1e-5)
        assert closer_to_one(r) == pytest.approx(math.exp(-abs(wrong - right)), rel=1e-4, abs=1e-9)


def test_nothing_is_left_of_a_ratio_where_both_vanish() -> None:
    assert ratio(np.exp(-200.0), np.exp(-200.0)) == pytest.approx(0, abs=1e-9)
