"""95 % intervals of means, shares, harmonic means and AUCs of items that may come in clusters.

Items about one thing (the facts about an author) are not independent, so whole clusters are what is resampled. From 8
clusters on that is a percentile bootstrap, its tails widened as Student's t is wider than the normal distribution
(Hesterberg 2015, The American Statistician 69:371); with fewer it is a jackknife over clusters with Student's t. What
nothing can be said of has no interval: one item, one cluster. Shares, and whatever does not vary at all, have score
intervals, which have a width at 0 and at 1 too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from unlearn.metrics.statistics import (
    LEVEL,
    Interval,
    auc,
    auc_draws,
    harmonic_mean,
    percentiles,
    resamples,
    weighted_means,
)

FEWEST_CLUSTERS = 8  # from which on clusters are resampled; of fewer there are too few different resamples
RARE = 10  # with fewer items of either kind a share does not tell how alike those of a cluster are
APART = 0.1  # nearer than this to 0 or 1 an AUC does not either
ALIKE = 0.2  # the correlation within clusters that is assumed then

NONE: Interval = math.nan, math.nan
UNIT: Interval = 0.0, 1.0
DIFFERENCE: Interval = -1.0, 1.0
Labels = Sequence[object] | np.ndarray
Clusters = Labels | None
"""A label for each item; None: each is a cluster of its own."""


def mean_interval(
    items: np.ndarray, clusters: Clusters = None, bounds: Interval = UNIT, level: float = LEVEL
) -> Interval:
    """Return the interval of the mean of the items [n] that are not nan. bounds: between which they all lie."""
    valid = ~np.isnan(items)
    items, codes = items[valid], _codes(clusters, len(items))[valid]
    if bounds == UNIT and (np.isin(items, UNIT).all() or (items == items[:1]).all()):
        return share_interval(items, codes, level)
    low, high = interval(lambda counts: weighted_means(items, counts[0]), [codes], level)
    return NONE if math.isnan(low) else (max(low, bounds[0]), min(high, bounds[1]))


def share_interval(hits: np.ndarray, clusters: Clusters = None, level: float = LEVEL) -> Interval:
    """Return Wilson's interval of the share of hits [n], with the number of items that clusters are worth.

    That number is n over the design effect, and Student's t with one degree of freedom per cluster but one takes the
    place of the normal quantile (Dean and Pagano 2015, Journal of Survey Statistics and Methodology 3:484).
    """
    codes = _codes(clusters, len(hits))
    sizes = np.bincount(_codes(codes, len(codes)))
    if len(sizes) < 2:
        return NONE
    n, share, per_cluster = len(hits), hits.mean(), (sizes**2).sum() / sizes.sum()
    off = np.bincount(_codes(codes, n), weights=hits - share)
    spread = len(sizes) / (len(sizes) - 1) * (off**2).sum() / n
    apart = share * (1 - share)
    effect = float(np.clip(spread / apart, 1, per_cluster)) if apart > 0 else 1.0
    known = min(1.0, min(share, 1 - share) * n / RARE)
    effect = known * effect + (1 - known) * max(effect, _assumed_effect(per_cluster))
    worth, t = n / effect, _student(level, len(sizes) - 1)
    middle = (share + t**2 / (2 * worth)) / (1 + t**2 / worth)
    reach = t / (1 + t**2 / worth) * math.sqrt(apart / worth + t**2 / (4 * worth**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def harmonic_mean_interval(
    groups: Sequence[Sequence[np.ndarray]], clusters: Sequence[Clusters] | None = None, level: float = LEVEL
) -> Interval:
    """Return the interval of the harmonic mean of the means of all item arrays.

    groups: for each probe set its arrays [n of that set]; they are resampled together, different sets apart. Where no
    resample differs, as with a mean of 0, the ends are those that the means' own ends give.
    """
    codes = [
        _codes(labels, len(group[0])) for group, labels in zip(groups, clusters or [None] * len(groups), strict=True)
    ]

    def statistic(counts: Sequence[np.ndarray]) -> np.ndarray:
        means = [weighted_means(items, drawn) for group, drawn in zip(groups, counts, strict=True) for items in group]
        return harmonic_mean(np.stack(means, axis=-1))

    low, high = interval(statistic, codes, level)
    if low == high:
        ends = [
            mean_interval(items, of, level=level) for group, of in zip(groups, codes, strict=True) for items in group
        ]
        low, high = (float(harmonic_mean(np.array(side))) for side in zip(*ends, strict=True))
    return low, high


def auc_interval(
    members: np.ndarray,
    others: np.ndarray,
    member_clusters: Clusters = None,
    other_clusters: Clusters = None,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of `auc`, both sides resampled.

    Where they hardly overlap, resamples hardly differ; then it reaches at least as far as a score interval.
    """
    codes = _codes(member_clusters, len(members)), _codes(other_clusters, len(others))
    value = auc(members, others)
    low, high = interval(lambda counts: auc_draws(members, others, *counts), codes, level)
    if math.isnan(low):
        return NONE
    if min(value, 1 - value) < APART:
        n, m = (len(of) / _assumed_effect((np.bincount(of) ** 2).sum() / len(of)) for of in codes)
        score = auc_score_interval(value, n, m, level)
        low, high = min(low, score[0]), max(high, score[1])
    return max(low, 0.0), min(high, 1.0)


def auc_score_interval(value: float, n: float, m: float, level: float = LEVEL) -> Interval:
    """Return the score interval of an AUC of n against m (Newcombe 2006, Statistics in Medicine 25:559, method 5).

    It holds all A with |value - A| <= z sd(A),
    sd(A)^2 = A (1 - A) [1 + ((n + m) / 2 - 1) ((1 - A) / (2 - A) + A / (1 + A))] / (n m).

    Unlike a bootstrap it has a width where the two sides do not overlap at all, as happens with few models.
    """
    if math.isnan(value):
        return NONE
    z = NormalDist().inv_cdf((1 + level) / 2)

    def beyond(a: float) -> bool:
        spread = 1 + ((n + m) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return abs(value - a) > z * math.sqrt(a * (1 - a) * spread / (n * m))

    return _edge(0.0, value, beyond), _edge(1.0, value, beyond)


def interval(
    statistic: Callable[[Sequence[np.ndarray]], np.ndarray], clusters: Sequence[Labels], level: float = LEVEL
) -> Interval:
    """Return the interval of a statistic of one or several sets of items that are resampled apart.

    statistic: its values [B] from counts [B, n] of each set's items, how often each was drawn. clusters: labels [n] of
    each set's items.
    """
    codes = [_codes(labels) for labels in clusters]
    few = clusters_of(*codes)
    if few < 2:
        return NONE
    if few < FEWEST_CLUSTERS:
        return _jackknife(statistic, codes, level)
    rng = np.random.default_rng(0)
    draws = statistic([resamples(int(of.max()) + 1, rng)[:, of] for of in codes])
    tail = NormalDist().cdf(-math.sqrt(few / (few - 1)) * _student(level, few - 1))
    return percentiles(draws, 1 - 2 * tail)


def clusters_of(*clusters: Labels) -> int:
    """Return how many clusters the set of items with the fewest has; 0 without a set."""
    return min((len(np.unique(_codes(labels))) for labels in clusters), default=0)


def basis(*clusters: Labels) -> str:
    """Return what has to be said of an interval that rests on so few clusters; "" where there are enough."""
    few = clusters_of(*clusters)
    if few < 2:
        return "n too small for an interval"
    return f"{few} clusters: t interval" if few < FEWEST_CLUSTERS else ""


def _jackknife(
    statistic: Callable[[Sequence[np.ndarray]], np.ndarray], codes: Sequence[np.ndarray], level: float
) -> Interval:
    """Return value ± t times the error that leaving out each cluster in turn shows.

    The degrees of freedom of several sets are Satterthwaite's.
    """
    whole = [np.ones((1, len(of))) for of in codes]
    value = float(statistic(whole)[0])
    errors, freedom = [], []
    for i, of in enumerate(codes):
        left = 1.0 - (of == np.arange(of.max() + 1)[:, None])
        n = len(left)
        counts = [left if j == i else np.repeat(ones, n, axis=0) for j, ones in enumerate(whole)]
        errors.append(float((n - 1) * statistic(counts).var()))
        freedom.append(n - 1)
    error = sum(errors)
    if not error > 0:
        return (value, value) if error == 0 else NONE
    df = error**2 / sum(part**2 / n for part, n in zip(errors, freedom, strict=True))
    reach = _student(level, df) * math.sqrt(error)
    return value - reach, value + reach


def _codes(clusters: Clusters, n: int = 0) -> np.ndarray:
    """Return the cluster of each item as numbers from 0 on, without gaps: [n]."""
    if clusters is None:
        return np.arange(n)
    if isinstance(clusters, np.ndarray) and clusters.dtype.kind == "i":
        return np.unique(clusters, return_inverse=True)[1]
    return np.unique([str(label) for label in clusters], return_inverse=True)[1]


def _assumed_effect(per_cluster: float) -> float:
    return 1 + (per_cluster - 1) * ALIKE


def _student(level: float, df: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, df))


def _edge(outside: float, inside: float, beyond: Callable[[float], bool]) -> float:
    """Return where, between the two, `beyond` ceases to hold (bisection)."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if beyond(middle) else (outside, middle)
    return inside
