from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unlearn.metrics.ks import ks_test


@pytest.mark.parametrize("paired", [True, False])
def test_distance_and_p_are_scipys(paired: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 40), rng.normal(0.7, 1, 40)
    test, expected = ks_test(x, y, range(40), None if paired else range(40)), stats.ks_2samp(x, y)
    assert (test.distance, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    # without ties D of independent samples of 40 has the same distribution whatever theirs is: beyond 0.3 in 5 of 100
    assert test.band == pytest.approx(0.3, abs=0.026)
    assert test.distance > test.band


def test_a_model_compared_with_itself_is_not_told_apart() -> None:
    x = np.random.default_rng(0).normal(size=30)
    test = ks_test(x, x, range(30))
    assert (test.distance, test.p, test.band) == (0, 1, 0)


def test_too_few_clusters_have_no_band() -> None:
    x = np.random.default_rng(0).normal(size=30)
    assert math.isnan(ks_test(x, -x, np.repeat(range(6), 5)).band)


def test_items_of_one_cluster_widen_the_band() -> None:
    """Eight clusters of 5 equal items are no more than 8 items."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=8), rng.normal(size=8)
    whole, labels = (np.repeat(x, 5), np.repeat(y, 5)), np.repeat(range(8), 5)
    for other in (None, labels):
        few = ks_test(x, y, range(8), None if other is None else range(8)).band
        assert ks_test(*whole, labels, other).band == pytest.approx(few)
        assert ks_test(*whole, range(40), None if other is None else range(40)).band < 0.6 * few


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize("draws", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_alike_samples_lie_in_the_band(shared: float, draws: int) -> None:
    """16 clusters of 5 items that two models show alike, and as differently as their seeds make them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(range(16), 5)
    inside = 0
    for _ in range(draws):
        item = math.sqrt(shared) * rng.normal(size=80)
        x, y = (
            item
            + math.sqrt(1 - shared)
            * (math.sqrt(0.3) * rng.normal(size=16)[labels] + math.sqrt(0.7) * rng.normal(size=80))
            for _ in range(2)
        )
        test = ks_test(x, y, labels)
        inside += test.distance <= test.band + 1e-9
    assert 0.93 - 2 * math.sqrt(0.05 * 0.95 / draws) <= inside / draws
