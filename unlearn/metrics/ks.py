"""The two-sample Kolmogorov-Smirnov test, and the distances that would be seen were both samples alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unlearn.metrics.intervals import FEWEST_CLUSTERS, clusters_of
from unlearn.metrics.statistics import LEVEL, ks_draws

if TYPE_CHECKING:
    from collections.abc import Sequence

PERMUTATIONS = 1000


@dataclass(frozen=True)
class KS:
    """A two-sample Kolmogorov-Smirnov test."""

    distance: float
    """D, the largest gap between the distributions."""
    p: float
    """Its p-value, of items that are independent."""
    band: float
    """Where `LEVEL` of the distances lie up to which alike samples come; nan with fewer than 8 clusters."""


def ks_test(
    x: np.ndarray,
    y: np.ndarray,
    x_clusters: Sequence[object] | np.ndarray,
    y_clusters: Sequence[object] | np.ndarray | None = None,
) -> KS:
    """Test whether x [n] and y [m] come from one distribution (two-sided, scipy's ks_2samp).

    clusters: labels of the items. y_clusters: None where x[i] and y[i] belong to one item. The band comes of 1,000
    permutations: whole clusters change sides, those of one item with each other (the test itself knows no pairs).

    An interval of D or p by resampling would be none: alike samples have a D of 0, which no resample comes below.
    """
    from scipy.stats import ks_2samp

    test = ks_2samp(x, y)
    band = math.nan
    if clusters_of(x_clusters, *(() if y_clusters is None else (y_clusters,))) >= FEWEST_CLUSTERS:
        mine = _swapped(x_clusters) if y_clusters is None else _dealt(x_clusters, y_clusters)
        both = np.concatenate([x, y])
        band = float(np.quantile(ks_draws(both, both, mine, 1 - mine), LEVEL))
    return KS(float(test.statistic), float(test.pvalue), band)


def _swapped(clusters: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return which of the items of x and then of y are in x after whole clusters were swapped: [permutations, 2n]."""
    names, codes = np.unique([str(label) for label in clusters], return_inverse=True)
    stays = np.random.default_rng(0).integers(0, 2, (PERMUTATIONS, len(names)))[:, codes].astype(float)
    return np.hstack([stays, 1 - stays])


def _dealt(x_clusters: Sequence[object] | np.ndarray, y_clusters: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return the same where the clusters of both are dealt out anew, to x as many as it had: [permutations, n + m]."""
    labels = [f"x {label}" for label in x_clusters] + [f"y {label}" for label in y_clusters]
    names, codes = np.unique(labels, return_inverse=True)
    rank = np.random.default_rng(0).random((PERMUTATIONS, len(names))).argsort(axis=1)
    return (rank < sum(str(name).startswith("x") for name in names))[:, codes].astype(float)
