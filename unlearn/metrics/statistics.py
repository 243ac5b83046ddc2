"""Bootstrap intervals of means, harmonic means, AUCs and KS tests.

Resamples are matrices of counts [resamples, items]: how often each item was drawn. Every statistic is then a few matrix
products, and statistics of several values per item (probability, ROUGE, truth ratio) can share one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95

Interval = tuple[float, float]


def resamples(
    n: int, rng: np.random.Generator | None = None, clusters: Sequence[object] | None = None, size: int = RESAMPLES
) -> np.ndarray:
    """Return counts [size, n] of `size` draws of n items with replacement.

    clusters: a label per item; whole clusters are drawn then, since items of one cluster are not independent. rng: None
    gives the same draws at every call.
    """
    rng = rng or np.random.default_rng(0)
    if clusters is not None:
        names, cluster_of = np.unique([str(cluster) for cluster in clusters], return_inverse=True)
        return resamples(len(names), rng, size=size)[:, cluster_of]
    drawn = rng.integers(0, max(n, 1), (size, n)) + np.arange(size)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def percentiles(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the central `level` of the draws that are not nan (percentile bootstrap); (nan, nan): there is none."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean(items: np.ndarray, clusters: Sequence[object] | None = None, level: float = LEVEL) -> Interval:
    """Return the interval of the mean of the items [n] that are not nan."""
    return percentiles(weighted_means(items, resamples(len(items), clusters=clusters)), level)


def weighted_means(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of the items [n] that are not nan in each resample: [resamples]; nan: it has none."""
    valid = ~np.isnan(items)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = counts[:, valid] @ items[valid] / counts[:, valid].sum(axis=1)
        return found


def harmonic_mean(values: np.ndarray) -> np.ndarray:
    """Return n / sum(1 / v) over the last axis; 0 where a value is 0, nan where one is nan."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = values.shape[-1] / (1 / values).sum(axis=-1)
        return found


def bootstrap_harmonic_mean(
    groups: Sequence[Sequence[np.ndarray]],
    clusters: Sequence[Sequence[object] | None] | None = None,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the harmonic mean of the means of all item arrays.

    groups: for each probe set its arrays [n of that set]; they are resampled together, different sets apart.
    """
    rng = np.random.default_rng(0)
    means = []
    for group, labels in zip(groups, clusters or [None] * len(groups), strict=True):
        counts = resamples(len(group[0]), rng, labels)
        means += [weighted_means(items, counts) for items in group]
    return percentiles(harmonic_mean(np.stack(means, axis=-1)), level)


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Return P(other > member) + P(other = member) / 2 over all pairs.

    That is the area under the ROC curve of telling `others` by a high score. nan where a side is empty or any score is
    nan.
    """
    ones = np.ones((1, len(members))), np.ones((1, len(others)))
    return float(auc_draws(members, others, *ones)[0])


def auc_draws(
    members: np.ndarray, others: np.ndarray, member_counts: np.ndarray, other_counts: np.ndarray
) -> np.ndarray:
    """Return `auc` of each resample: [resamples], from counts [resamples, members] and [resamples, others]."""
    if not len(members) or not len(others) or np.isnan(members).any() or np.isnan(others).any():
        return np.full(len(member_counts), math.nan)
    below, below_or_equal = (
        _counts_up_to(members, member_counts, others, side) for side in ("left", "right")
    )  # of each other's score, how many members lie below
    pairs = member_counts.sum(axis=1) * other_counts.sum(axis=1)
    found: np.ndarray = ((below + below_or_equal) / 2 * other_counts).sum(axis=1) / pairs
    return found


def bootstrap_auc(members: np.ndarray, others: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the interval of `auc`, both sides resampled."""
    rng = np.random.default_rng(0)
    counts = resamples(len(members), rng), resamples(len(others), rng)
    return percentiles(auc_draws(members, others, *counts), level)


@dataclass(frozen=True)
class KS:
    """A two-sample Kolmogorov-Smirnov test."""

    distance: float
    """D, the largest gap between the distributions."""
    p: float
    """Its p-value."""
    distance_interval: Interval
    """Bootstrap interval of D."""
    p_interval: Interval
    """Bootstrap interval of p."""


def ks_test(x: np.ndarray, y: np.ndarray, paired: bool, level: float = LEVEL) -> KS:
    """Test whether x [n] and y [m] come from one distribution (two-sided, scipy's ks_2samp), with intervals.

    paired: x[i] and y[i] belong to one item, which is drawn for both (the test itself knows no pairs). Interval of p: p
    falls as D rises, so the resamples at the quantiles of D are those at the quantiles of p, and only these are tested.
    """
    from scipy.stats import ks_2samp

    test = ks_2samp(x, y)
    rng = np.random.default_rng(0)
    x_counts = resamples(len(x), rng)
    y_counts = x_counts if paired else resamples(len(y), rng)
    draws = ks_draws(x, y, x_counts, y_counts)
    order = np.argsort(draws)
    ends = [order[round(q * (len(draws) - 1))] for q in ((1 - level) / 2, (1 + level) / 2)]
    p_high, p_low = (
        float(ks_2samp(np.repeat(x, x_counts[b].astype(int)), np.repeat(y, y_counts[b].astype(int))).pvalue)
        for b in ends
    )
    low, high = (float(draws[b]) for b in ends)
    return KS(float(test.statistic), float(test.pvalue), (low, high), (p_low, p_high))


def ks_draws(x: np.ndarray, y: np.ndarray, x_counts: np.ndarray, y_counts: np.ndarray) -> np.ndarray:
    """Return max |F_x - F_y| of each resample: [resamples], from counts [resamples, n] and [resamples, m]."""
    points = np.union1d(x, y)
    f_x, f_y = (
        _counts_up_to(sample, counts, points, "right") / counts.sum(axis=1, keepdims=True)
        for sample, counts in ((x, x_counts), (y, y_counts))
    )
    found: np.ndarray = np.abs(f_x - f_y).max(axis=1)
    return found


def _counts_up_to(sample: np.ndarray, counts: np.ndarray, points: np.ndarray, side: str) -> np.ndarray:
    """Return how many drawn items are < (side "left") or <= ("right") each point: [resamples, points]."""
    order = np.argsort(sample)
    running = np.pad(counts[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
    return running[:, np.searchsorted(sample[order], points, side="left" if side == "left" else "right")]
