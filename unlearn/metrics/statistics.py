"""Means, harmonic means, AUCs and KS distances of samples and of their resamples.

Resamples are matrices of counts [resamples, items]: how often each item was drawn. Every statistic is then a few matrix
products, and statistics of several values per item (probability, ROUGE, truth ratio) can share one matrix.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
