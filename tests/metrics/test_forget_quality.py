from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unlearn.metrics.forget_quality import ForgetQuality, ratios


def items(right: np.ndarray, wrong: np.ndarray) -> list[dict[str, object]]:
    return [{"answer": [-9], "paraphrase": [r], "perturbed": [[w]]} for r, w in zip(right, wrong, strict=True)]


@pytest.fixture(scope="module")
def draws() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [-rng.uniform(0, 2, 30) for _ in range(4)]


@pytest.mark.parametrize("others", [30, 20])
def test_ks_test_between_the_truth_ratios(make_scores, draws: list[np.ndarray], others: int) -> None:
    scores = make_scores(forget=items(draws[0], draws[1] - 0.5), retain=items(draws[0], draws[1]))
    control = make_scores(forget=items(draws[2][:others], draws[3][:others]))
    p, distance = ForgetQuality()(scores, {"control": control})
    mine, theirs = np.exp(draws[1] - 0.5 - draws[0]), np.exp(draws[3] - draws[2])[:others]
    expected = stats.ks_2samp(mine, theirs)
    assert (p.key, distance.key, p.n) == ("forget_quality", "forget_quality_ks", 30)
    assert (p.value, distance.value) == pytest.approx((expected.pvalue, expected.statistic))
    assert np.isnan([p.low, p.high, distance.low, distance.high]).all()
    band = float(distance.note.removeprefix("alike models: up to ").removesuffix(" in 95 of 100"))
    assert 0.2 < band < 0.6
    assert p.note == ""
    assert ratios(scores) == pytest.approx(mine, rel=1e-6)


def test_without_a_control_model(make_scores, draws: list[np.ndarray]) -> None:
    for result in ForgetQuality()(make_scores(forget=items(*draws[:2])), {}):
        assert math.isnan(result.value)
        assert result.note == "no control model"


def test_without_wrong_answers(make_scores) -> None:
    scores = make_scores(forget=[{"answer": [-1]}])
    for result in ForgetQuality()(scores, {"control": scores}):
        assert math.isnan(result.value)
        assert "truth ratio" in result.note


def test_items_without_a_ratio_are_left_out_on_both_sides(make_scores, draws: list[np.ndarray]) -> None:
    whole = items(*draws[:2])
    scores = make_scores(forget=[{"answer": [-1]}, *whole])
    p, _ = ForgetQuality()(scores, {"control": make_scores(forget=[{"answer": [-1]}, *whole])})
    assert (p.value, p.n) == (1, 30)
