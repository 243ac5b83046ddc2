from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.metrics.membership import mean_of_lowest, membership
from unlearn.metrics.mia_gradnorm import MiaGradnorm
from unlearn.metrics.mia_loss import MiaLoss
from unlearn.metrics.mia_min_k import MiaMinK
from unlearn.metrics.mia_min_k_plus_plus import MiaMinKPlusPlus
from unlearn.metrics.mia_reference import MiaReference
from unlearn.metrics.mia_zlib import MiaZlib

LOGP = [-1.0, -6.0, -2.0, -5.0, -3.0, -100.0]  # five tokens and EOS
MEAN, VAR = [-2.0] * 6, [1.0, 4.0, 1.0, 1e-9, 1.0, 1.0]


@pytest.fixture(scope="module")
def scores(make_scores):
    known = {"answer": LOGP, "mean": MEAN, "var": VAR, "zlib": 10, "gradnorm": 0.5}
    other = {"answer": [-7.0, -8.0], "mean": [-2.0] * 2, "var": [1.0] * 2, "zlib": 5, "gradnorm": 0.25}
    return make_scores(forget=[known, other], holdout=[other])


@pytest.fixture(scope="module")
def control(make_scores):
    return make_scores(forget=[{"answer": [-3.0]}, {"answer": [-1.0]}], holdout=[{"answer": [-4.0]}])


@pytest.mark.parametrize(
    ("attack", "name", "expected"),
    [
        (MiaLoss(), "mia_loss", [117 / 6, 7.5]),
        (MiaZlib(), "mia_zlib", [117 / 6 / 10, 7.5 / 5]),
        (MiaMinK(), "mia_min_k", [5.5, 7]),  # floor(0.4 * 5) = 2 lowest of five; one at least
        (MiaMinK(k=1.0), "mia_min_k", [17 / 5, 7]),
        (MiaMinKPlusPlus(), "mia_min_k_plus_plus", [(3000 + 2) / 2, 5]),  # z = 1, -2, 0, -3 / sqrt(1e-6), -1
        (MiaGradnorm(), "mia_gradnorm", [0.5, 0.25]),
    ],
)
def test_scores_of_rows(scores, attack, name: str, expected: list[float]) -> None:
    assert attack.rows(scores, "forget") == pytest.approx(expected)
    assert attack.rows(scores, "holdout") == pytest.approx(expected[1:])
    [result] = attack(scores, {})
    assert (result.key, result.n) == (f"forget/{name}", 2)
    assert result.items == pytest.approx(expected)
    assert result.value == (0.75 if expected[1] > expected[0] else 0.25)  # one pair of two, and a tie


def test_reference(scores, control) -> None:
    attack = MiaReference()
    assert attack.rows(scores, control, "forget") == pytest.approx([117 / 6 - 3, 6.5])
    assert attack.rows(scores, control, "holdout") == pytest.approx([3.5])
    assert attack(scores, {"control": control})[0].value == 0
    assert attack(scores, {})[0].note == "no control model"


def test_without_a_holdout_set(make_scores) -> None:
    scores = make_scores(forget=[{"answer": LOGP, "mean": MEAN, "var": VAR}])
    for attack in (MiaLoss(), MiaZlib(), MiaMinK(), MiaMinKPlusPlus()):
        [result] = attack(scores, {})
        assert math.isnan(result.value)
        assert result.note == "no scores of a holdout set"
    assert MiaReference()(scores, {"control": scores})[0].note == "no scores of a holdout set"
    assert "evaluate=full" in MiaGradnorm()(scores, {})[0].note


def test_rows_without_a_score_are_left_out() -> None:
    result = membership("x", np.array([1.0, np.nan, 3.0]), np.array([2.0, np.nan]), (np.arange(3), np.arange(2)))
    assert (result.value, result.n) == (0.5, 2)
    assert len(result.items) == 3


@given(st.lists(st.integers(-9, 0), max_size=12), st.floats(0.05, 1))
def test_mean_of_lowest(values: list[int], share: float) -> None:
    k = max(1, math.floor(share * len(values)))
    expected = sum(sorted(values)[:k]) / k if values else 0
    assert mean_of_lowest(np.array(values, dtype=float), share) == pytest.approx(expected)
