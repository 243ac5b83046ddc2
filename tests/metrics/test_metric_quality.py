"""The meta-evaluation's formulas, by hand and by brute force."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from unlearn.metrics.intervals import auc_score_interval
from unlearn.metrics.metric_quality import (
    Pool,
    quality,
    quantization,
    read,
    reading,
    relearning,
    threshold,
)

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6).map(np.array)


def test_relearning_beside_the_control_model() -> None:
    """Rises of 0.1 (0.4 of the control model's 0.2), 0.4 (twice it), 0 and -0.1: r = 2, 0.5, none, none."""
    unlearned, relearned = np.array([0.1, 0.1, 0.1, 0.2]), np.array([0.2, 0.5, 0.1, 0.1])
    retain, retain_relearned = np.full(4, 0.3), np.full(4, 0.5)
    np.testing.assert_allclose(relearning(unlearned, relearned, retain, retain_relearned), [1, 0.5, 1, 1])


def test_relearning_is_not_below_0_and_undefined_where_a_value_is() -> None:
    """The control model falls while the unlearned one rises: r = -2, which counts as 0."""
    assert relearning(np.array([0.1]), np.array([0.2]), np.array([0.5]), np.array([0.3])) == [0]
    for i in range(4):
        values = [np.array([math.nan if i == j else v]) for j, v in enumerate((0.2, 0.1, 0.1, 0.2))]
        assert np.isnan(relearning(*values)).all()


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_relearning_does_not_depend_on_scale_and_origin(scale: float, origin: float) -> None:
    values = [np.array([v]) for v in (0.1, 0.5, 0.3, 0.45)]
    np.testing.assert_allclose(
        relearning(*(scale * v + origin for v in values)), relearning(*values), rtol=1e-6
    )  # 0.15 / 0.4


def test_quantization() -> None:
    """0.1 of 0.4 was seen before, 0.3 of 0.2, nothing of nothing, something of nothing."""
    np.testing.assert_allclose(
        quantization(np.array([0.1, 0.3, 0, 0.2, 0]), np.array([0.4, 0.2, 0, 0, 0.5])), [0.25, 1, 1, 1, 0]
    )


def test_quantization_needs_a_zero() -> None:
    assert np.isnan(quantization(np.array([0.1, -20.0]), np.array([0.4, 3.0]))).all()
    assert np.isnan(quantization(np.array([math.nan, 0.1]), np.array([0.4, 0.2]))).tolist() == [True, False]


def test_threshold_parts_the_pools_midway() -> None:
    assert threshold(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == pytest.approx(0.5)
    assert math.isnan(threshold(np.array([0.3, 0.3]), np.array([0.3])))


@given(VALUES, VALUES)
def test_no_other_threshold_tells_more_models_apart(knowing: np.ndarray, ignorant: np.ndarray) -> None:
    found = threshold(knowing, ignorant)
    if math.isnan(found):
        assert len(np.unique([*knowing, *ignorant])) == 1
        return

    def right(cut: float) -> float:
        shares = (sum(v >= cut for v in knowing) / len(knowing), sum(v < cut for v in ignorant) / len(ignorant))
        return float(sum(shares))

    values = sorted({*knowing, *ignorant})
    assert values[0] <= found <= values[-1]
    assert right(found) >= max(right((a + b) / 2) for a, b in pairwise(values)) - 1e-12


@pytest.mark.parametrize(
    ("values", "original", "retain", "how", "seen"),
    [
        ((0.2, 0.9), 0.9, 0.2, "m", (0.2, 0.9)),
        ((0.2, 0.9), 0.2, 0.9, "1 - m", (0.8, 0.1)),
        ((-100.0, 5.0), -100.0, 0.0, "-m", (100.0, -5.0)),
    ],
)
def test_two_models_tell_how_a_metric_is_read(
    values: tuple[float, ...], original: float, retain: float, how: str, seen: tuple[float, ...]
) -> None:
    assert reading(np.array(values), original, retain) == how
    np.testing.assert_allclose(read(np.array(values), reading(np.array(values), original, retain)), seen)


@pytest.mark.parametrize(("original", "retain"), [(0.5, 0.5), (math.nan, 0.5), (0.5, math.nan)])
def test_a_metric_that_does_not_tell_the_two_is_not_read(original: float, retain: float) -> None:
    assert reading(np.array([0.1, 0.9]), original, retain) == "none"
    assert np.isnan(read(np.array([0.1, 0.9]), "none")).all()


@given(st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_the_ends_of_an_aucs_interval_are_just_as_likely_as_the_level_says(value: float, n: int, m: int) -> None:
    """Each end A that is inside (0, 1) lies z standard deviations from the value, as A itself has it."""
    low, high = auc_score_interval(value, n, m)
    assert 0 <= low <= value <= high <= 1
    assert auc_score_interval(1 - value, n, m) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    for end in (low, high):
        if 1e-6 < end < 1 - 1e-6 and abs(end - value) > 1e-6:
            middle = (n + m) / 2 - 1
            variance = end * (1 - end) * (1 + middle * ((1 - end) / (2 - end) + end / (1 + end))) / (n * m)
            assert abs(end - value) == pytest.approx(norm.ppf(0.975) * math.sqrt(variance), rel=1e-4)


def test_an_aucs_interval_covers_the_truth() -> None:
    """Six against six draws of two normals a distance 1 apart, 300 times: the AUC is Phi(1 / sqrt 2)."""
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / math.sqrt(2))
    covered = 0
    for _ in range(300):
        knowing, ignorant = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
        low, high = auc_score_interval((knowing[:, None] > ignorant).mean(), 6, 6)
        covered += low <= truth <= high
    assert covered >= 0.92 * 300
    assert all(map(math.isnan, auc_score_interval(math.nan, 6, 6)))


POOL = Pool(
    knowing=np.array([0.9, 0.8, 0.5, 0.3]),
    ignorant=np.array([0.2, 0.1, 0.4]),
    unlearned=np.array([0.1, 0.05, 0.1, 0.2, 0.6]),
    relearned=np.array([0.2, 0.45, 0.3, 0.9, 0.9]),
    quantised=np.array([0.1, 0.1, 0.4, 0.9, 0.9]),
    control=np.full(5, 0.1),
    control_relearned=np.full(5, 0.3),
    useful=np.array([True, True, True, False, True]),
)


def test_the_quality_of_a_metric() -> None:
    """Of 12 pairs one is the wrong way round (0.3 < 0.4). 0.45 errs in one of the four that know, 0.25 in one of the
    three that do not. The fourth model lost its utility, the fifth is above the threshold, which leaves three: R is 1,
    0.5 and 1, Q 1, 0.5 and 0.25.
    """
    found = quality(POOL)
    assert found.faithfulness == pytest.approx(11 / 12)
    assert found.threshold == pytest.approx(0.45)
    assert found.n == 3
    assert found.relearning == pytest.approx(2.5 / 3)
    assert found.quantization == pytest.approx(1.75 / 3)
    robustness = 2 / (3 / 2.5 + 3 / 1.75)
    assert found.robustness == pytest.approx(robustness)
    assert found.overall == pytest.approx(2 / (12 / 11 + 1 / robustness))
    low, high = found.relearning_interval
    error = 4.3027 * math.sqrt(1 / 12 / 3)  # Student's t with 2 degrees of freedom; the variance of R is 1/12
    assert low == pytest.approx(2.5 / 3 - error, abs=1e-3)
    assert high == 1


def test_without_unlearned_models_that_count_there_is_no_robustness() -> None:
    found = quality(replace(POOL, useful=np.zeros(5, dtype=bool)))
    assert found.n == 0
    assert found.faithfulness == pytest.approx(11 / 12)
    assert all(map(math.isnan, (found.relearning, found.quantization, found.robustness, found.overall)))


def test_two_models_have_no_interval() -> None:
    found = quality(replace(POOL, useful=np.array([True, True, False, False, False])))
    assert found.relearning == pytest.approx(0.75)
    assert all(map(math.isnan, found.relearning_interval))
