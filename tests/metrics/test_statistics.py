from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unlearn.metrics.statistics import (
    auc,
    auc_draws,
    bootstrap_auc,
    bootstrap_harmonic_mean,
    bootstrap_mean,
    harmonic_mean,
    ks_draws,
    ks_test,
    percentiles,
    resamples,
    weighted_means,
)

FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=8).map(lambda values: np.array(values, dtype=float))


def drawn(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.repeat(items, counts.astype(int))


@given(st.integers(1, 20))
def test_a_resample_draws_as_many_items_as_there_are(n: int) -> None:
    counts = resamples(n, size=50)
    assert counts.shape == (50, n)
    assert (counts.sum(axis=1) == n).all()
    assert (counts == resamples(n, size=50)).all()


def test_each_item_is_drawn_once_on_average_and_independently() -> None:
    counts = resamples(5, size=20_000)
    assert counts.mean(axis=0) == pytest.approx(np.ones(5), abs=0.05)
    assert counts.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.05)  # binomial(5, 1/5)
    assert np.corrcoef(counts.T)[0, 1:] == pytest.approx(np.full(4, -0.25), abs=0.05)  # multinomial


def test_clusters_are_drawn_whole() -> None:
    counts = resamples(5, clusters=["a", "b", "a", "c", "b"], size=100)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()


@given(FEW)
def test_weighted_means_are_means_of_the_drawn_items(items: np.ndarray) -> None:
    counts = resamples(len(items), size=20)
    expected = [drawn(items, row).mean() for row in counts]
    assert weighted_means(items, counts) == pytest.approx(expected)
    assert weighted_means(
        np.append(items, np.nan), np.pad(counts, ((0, 0), (0, 1)), constant_values=2)
    ) == pytest.approx(expected)


def test_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    items = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap_mean(items)
    error = 1.96 * items.std() / 20
    assert (low, high) == pytest.approx((items.mean() - error, items.mean() + error), abs=0.05)


def test_items_of_one_cluster_widen_the_interval() -> None:
    items = np.repeat(np.random.default_rng(1).normal(0, 1, 40), 10)
    clusters = np.repeat(np.arange(40), 10).tolist()
    low, high = bootstrap_mean(items, clusters)
    error = 1.96 * items.std() / math.sqrt(40)
    assert (low, high) == pytest.approx((items.mean() - error, items.mean() + error), abs=0.1)
    narrow = bootstrap_mean(items)
    assert high - low > 2.5 * (narrow[1] - narrow[0])


def test_percentiles_leave_out_nan() -> None:
    assert percentiles(np.array([*range(101), np.nan]), level=0.9) == pytest.approx((5, 95))
    assert all(map(math.isnan, percentiles(np.array([np.nan]))))
    assert all(map(math.isnan, bootstrap_mean(np.empty(0))))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=9))
def test_harmonic_mean(values: list[float]) -> None:
    assert harmonic_mean(np.array(values)) == pytest.approx(stats.hmean(values))


def test_harmonic_mean_of_zero_and_nan() -> None:
    assert harmonic_mean(np.array([0.5, 0.0])) == 0
    assert math.isnan(harmonic_mean(np.array([0.5, np.nan])))


def test_values_of_one_item_are_resampled_together() -> None:
    """A + b is constant, so with shared draws their means lie on a line, and their harmonic mean tops at 1/2."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, 30)
    together = bootstrap_harmonic_mean([[a, 1 - a]])
    apart = bootstrap_harmonic_mean([[a], [1 - a]])
    assert together[1] <= 0.5 + 1e-9
    assert apart[1] > 0.52


@given(FEW, FEW)
def test_auc_counts_pairs(members: np.ndarray, others: np.ndarray) -> None:
    expected = np.mean([(o > m) + (o == m) / 2 for m in members for o in others])
    assert auc(members, others) == pytest.approx(expected)


def test_auc_is_undefined_without_scores() -> None:
    assert math.isnan(auc(np.empty(0), np.ones(2)))
    assert math.isnan(auc(np.array([np.nan, 1]), np.ones(2)))


@given(FEW, FEW)
@settings(max_examples=30)
def test_auc_of_resamples(members: np.ndarray, others: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    counts = resamples(len(members), rng, size=10), resamples(len(others), rng, size=10)
    expected = [auc(drawn(members, m), drawn(others, o)) for m, o in zip(*counts, strict=True)]
    assert auc_draws(members, others, *counts) == pytest.approx(expected)


def test_interval_of_an_auc_covers_the_value_and_narrows_with_n() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 320):
        members, others = rng.normal(0, 1, n), rng.normal(1, 1, n)
        low, high = bootstrap_auc(members, others)
        assert low < auc(members, others) < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)  # sqrt(320 / 20)


@given(FEW, FEW)
@settings(max_examples=30)
def test_ks_distance_of_resamples(x: np.ndarray, y: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    counts = resamples(len(x), rng, size=10), resamples(len(y), rng, size=10)
    expected = [
        stats.ks_2samp(drawn(x, a), drawn(y, b), method="asymp").statistic for a, b in zip(*counts, strict=True)
    ]
    assert ks_draws(x, y, *counts) == pytest.approx(expected)


@pytest.mark.parametrize("paired", [True, False])
def test_ks_test(paired: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 40), rng.normal(0.7, 1, 40)
    test, expected = ks_test(x, y, paired), stats.ks_2samp(x, y)
    assert (test.distance, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    for low, value, high in ((*test.distance_interval, test.distance), (*test.p_interval, test.p)):
        assert low < high
        assert value is not None
    assert test.distance_interval[0] <= test.distance <= test.distance_interval[1]
    assert test.p_interval[0] <= test.p <= test.p_interval[1]
    # without ties p depends on D, n and m alone: the ends of its interval are the p of the ends of D's
    for distance, p in zip(test.distance_interval, reversed(test.p_interval), strict=True):
        assert p == pytest.approx(stats.ks_2samp(np.arange(40), np.arange(40) + 40 * distance - 0.5).pvalue, rel=0.2)


def test_a_model_compared_with_itself_is_not_told_apart() -> None:
    x = np.random.default_rng(0).normal(size=30)
    test = ks_test(x, x, paired=True)
    assert (test.distance, test.p) == (0, 1)
    assert test.distance_interval == (0, 0)
    assert test.p_interval == (1, 1)
