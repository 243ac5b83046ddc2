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
    harmonic_mean,
    ks_draws,
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


def test_percentiles_leave_out_nan() -> None:
    assert percentiles(np.array([*range(101), np.nan]), level=0.9) == pytest.approx((5, 95))
    assert all(map(math.isnan, percentiles(np.array([np.nan]))))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=9))
def test_harmonic_mean(values: list[float]) -> None:
    assert harmonic_mean(np.array(values)) == pytest.approx(stats.hmean(values))


def test_harmonic_mean_of_zero_and_nan() -> None:
    assert harmonic_mean(np.array([0.5, 0.0])) == 0
    assert math.isnan(harmonic_mean(np.array([0.5, np.nan])))


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


@given(FEW, FEW)
@settings(max_examples=30)
def test_ks_distance_of_resamples(x: np.ndarray, y: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    counts = resamples(len(x), rng, size=10), resamples(len(y), rng, size=10)
    expected = [
        stats.ks_2samp(drawn(x, a), drawn(y, b), method="asymp").statistic for a, b in zip(*counts, strict=True)
    ]
    assert ks_draws(x, y, *counts) == pytest.approx(expected)
