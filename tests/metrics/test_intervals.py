from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from unlearn.metrics.intervals import (
    auc_interval,
    auc_score_interval,
    basis,
    harmonic_mean_interval,
    interval,
    mean_interval,
    share_interval,
)
from unlearn.metrics.statistics import Interval, auc, harmonic_mean

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = -math.inf, math.inf
T5 = 2.5706  # the .975 quantile of Student's t with 5 degrees of freedom, from a table


def test_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    items = np.random.default_rng(1).normal(3, 2, 400)
    low, high = mean_interval(items, bounds=ANY)
    error = 1.96 * items.std() / 20
    assert (low, high) == pytest.approx((items.mean() - error, items.mean() + error), abs=0.05)


def test_items_of_one_cluster_widen_the_interval() -> None:
    items = np.repeat(np.random.default_rng(1).normal(0, 1, 40), 10)
    clusters = np.repeat(np.arange(40), 10).tolist()
    low, high = mean_interval(items, clusters, ANY)
    error = 2.02 * items.std(ddof=0) / math.sqrt(39)  # Student's t with 39 degrees of freedom
    assert (low, high) == pytest.approx((items.mean() - error, items.mean() + error), abs=0.06)
    narrow = mean_interval(items, bounds=ANY)
    assert high - low > 2.5 * (narrow[1] - narrow[0])


def test_few_clusters_have_students_interval() -> None:
    """Six clusters of 4 equal items: t of the six values, worked out by hand."""
    values = np.array([1.0, 2, 4, 4, 5, 8])
    error = T5 * values.std(ddof=1) / math.sqrt(6)
    found = mean_interval(np.repeat(values, 4), np.repeat([*"abcdef"], 4), ANY)
    assert found == pytest.approx((4 - error, 4 + error), rel=1e-4)
    assert basis(np.repeat([*"abcdef"], 4)) == "6 clusters: t interval"


@pytest.mark.parametrize("clusters", [[*"a"], [*"aaaa"]])
def test_one_cluster_has_no_interval(clusters: list[str]) -> None:
    items = np.linspace(0, 1, len(clusters))
    assert np.isnan([*mean_interval(items, clusters), *auc_interval(items, items, clusters, clusters)]).all()
    assert np.isnan([*mean_interval(np.ones(len(clusters)), clusters), *mean_interval(np.empty(0))]).all()
    assert basis(clusters) == "n too small for an interval"
    assert basis(range(8)) == ""
    assert basis(range(8), clusters) == "n too small for an interval"


def test_what_never_or_always_happened_is_not_certain() -> None:
    """Wilson's upper end at 0 of n is t^2 / (n + t^2); nobody shares a cluster, so no design effect."""
    for n in (8, 36, 400):
        t = float(stats.t.ppf(0.975, n - 1))
        assert mean_interval(np.zeros(n)) == pytest.approx((0, t**2 / (n + t**2)))
        assert mean_interval(np.ones(n)) == pytest.approx((n / (n + t**2), 1))
    # 36 in 6 clusters: as many as 36 / (1 + 5 * 0.2) independent ones
    assert mean_interval(np.zeros(36), np.repeat(range(6), 6)) == pytest.approx((0, T5**2 / (18 + T5**2)), rel=1e-4)


def test_share_of_a_handful_is_wilsons() -> None:
    """11 of 60, nobody sharing a cluster: with 59 degrees of freedom t is 2.001, near statsmodels' (.106, .299)."""
    hits = np.array([1.0] * 11 + [0.0] * 49)
    assert share_interval(hits) == pytest.approx((0.106, 0.299), abs=0.003)


def test_clusters_that_are_all_or_nothing_count_once() -> None:
    hits = np.repeat([1.0, 0] * 12, 10)
    t = float(stats.t.ppf(0.975, 23))
    reach = t / (1 + t**2 / 24) * math.sqrt(0.25 / 24 + t**2 / (4 * 24**2))
    assert share_interval(hits, np.repeat(range(24), 10)) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_values_of_one_item_are_resampled_together() -> None:
    """A + b is constant, so with shared draws their means lie on a line, and their harmonic mean tops at 1/2."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, 30)
    together = harmonic_mean_interval([[a, 1 - a]])
    apart = harmonic_mean_interval([[a], [1 - a]])
    assert together[1] <= 0.5 + 1e-9
    assert apart[1] > 0.52


def test_a_harmonic_mean_of_nought_is_not_certain() -> None:
    """Its ends are made of the ends of the means."""
    low, high = harmonic_mean_interval([[np.zeros(20), np.full(20, 0.8)]])
    ends = np.array([mean_interval(np.zeros(20))[1], mean_interval(np.full(20, 0.8))[1]])
    assert low == 0
    assert high == pytest.approx(harmonic_mean(ends))


def test_interval_of_an_auc_covers_the_value_and_narrows_with_n() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 320):
        members, others = rng.normal(0, 1, n), rng.normal(1, 1, n)
        low, high = auc_interval(members, others)
        assert low < auc(members, others) < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)  # sqrt(320 / 20)


def test_sides_that_do_not_overlap_are_not_told_apart_for_certain() -> None:
    low, high = auc_interval(np.arange(20.0), np.arange(20.0) + 30)
    assert high == 1
    assert low == pytest.approx(auc_score_interval(1, 20, 20)[0])
    assert low < 0.95
    assert auc_interval(np.arange(20.0) + 30, np.arange(20.0))[1] == pytest.approx(1 - low)


def test_one_score_interval_by_hand() -> None:
    """At an AUC of 1 its lower end A has 1 - A = z sd(A)."""
    low = auc_score_interval(1.0, 10, 10)[0]
    spread = 1 + 9 * ((1 - low) / (2 - low) + low / (1 + low))
    assert 1 - low == pytest.approx(1.96 * math.sqrt(low * (1 - low) * spread / 100), rel=1e-3)


def test_several_sets_of_few_clusters_add_their_errors() -> None:
    """A difference of two means of 5 and 5 is Welch's t interval, as scipy has it."""
    x, y = np.array([1.0, 2, 4, 4, 9]), np.array([1.0, 1, 0, 3, 2])
    found = interval(lambda counts: counts[0] @ x / counts[0].sum(1) - counts[1] @ y / counts[1].sum(1), [range(5)] * 2)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert found == pytest.approx((expected.low, expected.high))


def clustered(rng: np.random.Generator, clusters: int, items: int, icc: float) -> np.ndarray:
    """Draw standard normal items [clusters * items], correlated by `icc` within a cluster."""
    own = rng.normal(size=(clusters, items))
    return (math.sqrt(icc) * rng.normal(size=(clusters, 1)) + math.sqrt(1 - icc) * own).ravel()


def mean_of_probabilities(rng: np.random.Generator, size: tuple[int, int, float]) -> tuple[Interval, float]:
    """Uniform values, whose mean is a half."""
    items = np.array([*map(NormalDist().cdf, clustered(rng, *size))])
    return mean_interval(items, np.repeat(range(size[0]), size[1])), 0.5


def share_of_hits(share: float) -> Callable[[np.random.Generator, tuple[int, int, float]], tuple[Interval, float]]:
    def draw(rng: np.random.Generator, size: tuple[int, int, float]) -> tuple[Interval, float]:
        hits = (clustered(rng, *size) < NormalDist().inv_cdf(share)).astype(float)
        return mean_interval(hits, np.repeat(range(size[0]), size[1])), share

    return draw


def auc_of(distance: float) -> Callable[[np.random.Generator, tuple[int, int, float]], tuple[Interval, float]]:
    def draw(rng: np.random.Generator, size: tuple[int, int, float]) -> tuple[Interval, float]:
        labels = np.repeat(range(size[0]), size[1])
        members, others = clustered(rng, *size), clustered(rng, *size) + distance
        return auc_interval(members, others, labels, labels), NormalDist().cdf(distance / math.sqrt(2))

    return draw


DRAWN = {
    "mean": mean_of_probabilities,
    "share of a tenth": share_of_hits(0.1),
    "share of .4": share_of_hits(0.4),
    "auc of a half": auc_of(0.0),
    "auc of .96": auc_of(2.5),
}


def coverage(drawn: str, size: tuple[int, int, float], draws: int) -> float:
    """Return how often the interval holds the truth. size: clusters, items of each, correlation within them."""
    rng = np.random.default_rng(0)
    found = [DRAWN[drawn](rng, size) for _ in range(draws)]
    return float(np.mean([low <= truth <= high for (low, high), truth in found]))


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("size", [(5, 8, 0.1), (16, 5, 0.1)])
def test_intervals_hold_the_truth(drawn: str, size: tuple[int, int, float]) -> None:
    assert coverage(drawn, size, 150) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 150)


@pytest.mark.slow
@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("icc", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("size", [(4, 10), (6, 6), (8, 10), (16, 5), (20, 20)])
def test_coverage(drawn: str, size: tuple[int, int], icc: float) -> None:
    """Among 1,000 draws, no more misses than 7 % and two Monte-Carlo errors (0.8 %) explain."""
    error = math.sqrt(0.93 * 0.07 / 1000)
    assert coverage(drawn, (*size, icc), 1000) >= 0.93 - 2 * error
