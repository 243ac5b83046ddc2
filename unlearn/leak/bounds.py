"""Bounds of the leaks of several attacks that hold all at once.

L > d means that excess - d room has a mean above 0, so that bounds come from tests of means, and no ratio is resampled.
Under H0 a cluster's sum has either sign alike. Flipping the signs of whole clusters, the same for all attacks, gives
the distribution of the largest studentised mean (max-t: Westfall and Young 1993; wild cluster bootstrap with the null
imposed: Cameron, Gelbach and Miller 2008). A bound is the d at which the test turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unlearn.leak.crossfit import Read

ALPHA = 0.05  # the error of all lower bounds together, and that of all upper bounds together
PART = 0.02  # of it: for the lower bounds of attacks that could see a leak among themselves, for the upper ones of all
FEWEST_CLUSTERS = 8  # with fewer, signs have too few patterns: Student's t, corrected for the number of attacks
FLIPS = 2000
_ALL_PATTERNS = 10  # up to so many clusters every pattern of signs is tried
_COARSE = np.array(
    [-10.0, -2.0, -1.0, -0.5, -0.2, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 2.0, 10.0]
)
_FINE = np.unique(np.concatenate([_COARSE, np.linspace(-2, 2, 801), np.linspace(-10, 10, 401)]).round(10))
Array = np.ndarray


@dataclass(frozen=True)
class Sums:
    """What was read under one attack, summed by cluster, G."""

    excess: Array
    """K of the unlearned model minus the control's, [G]."""
    room: Array
    """K of the original minus the control's, [G]."""
    items: int
    """How many items that are."""
    seeds: Array
    """Covariance of the sums of excess and room that the seeds give them, [2, 2]."""

    @classmethod
    def of(cls, read: Read, clusters: Sequence[str], resampled: bool = False) -> Sums:
        """Return the sums of V items with these clusters, [V].

        resampled: the seeds are resamples of what the items are compared with, so that their spread is the error of one
        seed, and of the mean as well; else that of the mean is smaller.
        """
        names, of = np.unique(list(clusters), return_inverse=True)
        by_seed = np.stack([read.unlearned - read.control, read.original - read.control])  # [2, S, V]
        excess, room = (np.bincount(of, one.mean(axis=0), minlength=len(names)) for one in by_seed)
        totals = by_seed.sum(axis=2)
        s = totals.shape[1]
        spread = totals - totals.mean(axis=1, keepdims=True)
        seeds = spread @ spread.T / (s if resampled else s * max(s - 1, 1))
        return cls(excess, room, int(np.count_nonzero(read.times)), seeds)


@dataclass(frozen=True)
class Family:
    """Hypotheses that are judged together."""

    attacks: Sequence[Sums]
    """m attacks, whose leak is to be bounded."""
    removed: Sequence[Sums] = ()
    """What is asked besides: whether the excess of these is above 0 (there, the control's over the unlearned model)."""

    def statistics(self, leaks: Array) -> Array:
        """Return the studentised sum of excess - leak x room of each attack, [leaks, m]."""
        return np.stack([_studentised(one, leaks) for one in self.attacks], axis=1)

    def flipped(self, leak: float) -> Array:
        """Return the studentised sums under each pattern of signs, [m + those asked besides, patterns]."""
        sums = np.stack([*(a.excess - leak * a.room for a in self.attacks), *(a.excess for a in self.removed)])
        norms = np.sqrt((sums**2).sum(axis=1, keepdims=True))
        found: Array = _over(sums, norms) @ sign_patterns(sums.shape[1]).T
        return found


def _studentised(sums: Sums, leaks: Array) -> Array:
    a, b = sums.excess, sums.room
    total, noise = a.sum() - leaks * b.sum(), a @ a - 2 * leaks * (a @ b) + leaks**2 * (b @ b)
    noise = np.where(noise > 1e-12 * (a @ a + b @ b), noise, 0.0)
    (aa, ab), (_, bb) = sums.seeds
    return _over(total, np.sqrt(noise + np.clip(aa - 2 * leaks * ab + leaks**2 * bb, 0, None)))


@dataclass(frozen=True)
class Bounds:
    """One-sided bounds: with a probability of 1 - ALPHA all lower ones hold, and so do all upper ones."""

    low: Array
    """Lower bounds of the leaks, [m]; nan where there are none."""
    high: Array
    """Upper bounds."""
    removed: Array
    """Of what is asked besides, whether it is so, bool."""


def bounds_of(family: Family, able: Array, lower: Sequence[float], upper: float) -> Bounds:
    """Return the simultaneous bounds of the attacks' leaks; nan below two clusters.

    able: the attacks that could have seen a leak, [m] bool. They are judged among themselves, too, with a part of the
    error of their own, so that the noise of the others does not hide what they see. lower, upper: leaks at which the
    tests are step-down, where what is rejected in a later step gets that leak as its bound.
    """
    m = len(family.attacks)
    if not m or len(family.attacks[0].excess) < 2:
        return Bounds(np.full(m, math.nan), np.full(m, math.nan), np.zeros(len(family.removed), bool))
    null = _Null(family, np.unique(np.concatenate([_COARSE, lower, [upper]])))
    mixed = bool(able.any() and not able.all())
    everyone = np.arange(m)
    low, removed = _lower(null, everyone, lower, ALPHA - PART if mixed else ALPHA)
    high = _upper(null, everyone, upper, PART if mixed else ALPHA)
    if mixed:
        among = np.flatnonzero(able)
        mine, also = _lower(null, among, lower, PART)
        low[among], removed = np.maximum(low[among], mine), removed | also
        high[among] = np.minimum(high[among], _upper(null, among, upper, ALPHA - PART))
    return Bounds(low, high, removed)


class _Null:
    """The statistics of a family at any leak, and what they are where every leak is one of `at`."""

    def __init__(self, family: Family, at: Array) -> None:
        self.family, self.at = family, at
        self.clusters = len(family.attacks[0].excess)
        self.observed = family.statistics(_FINE)
        self.besides = np.array([_studentised(one, np.zeros(1))[0] for one in family.removed])
        self.flips = (
            {float(leak): family.flipped(float(leak)) for leak in at} if self.clusters >= FEWEST_CLUSTERS else {}
        )

    def of(self, leak: float, chosen: Array) -> Array:
        """Return the flipped statistics of the attacks chosen, and of what is asked besides."""
        flipped, m = self.flips[leak], len(self.family.attacks)
        return np.concatenate([flipped[chosen], flipped[m:]])

    def limits(self, chosen: Array, alpha: float) -> Array:
        """Return what none of the statistics chosen exceeds with a probability above alpha, for each of `at`."""
        if self.flips:
            return np.array([_quantile(self.of(float(leak), chosen).max(axis=0), alpha) for leak in self.at])
        from scipy.stats import t

        n = self.clusters
        student = float(t.ppf((1 - alpha) ** (1 / (len(chosen) + len(self.besides))), n - 1))
        return np.full(len(self.at), student * math.sqrt(n / (n - 1 + student**2)))


def _lower(null: _Null, chosen: Array, steps: Sequence[float], alpha: float) -> tuple[Array, Array]:
    limits = null.limits(chosen, alpha)
    above = null.observed[:, chosen] - np.interp(_FINE, null.at, limits)[:, None]
    low = np.array([_turn(column, _FINE) for column in above.T])
    for leak in steps:
        low = np.where(_rejected(null, chosen, leak, alpha, 1), np.maximum(low, leak), low)
    least, _ = _all_or_nothing(null, chosen, alpha)
    return np.minimum(low, least), null.besides > np.interp(0.0, null.at, limits)


def _upper(null: _Null, chosen: Array, step: float, alpha: float) -> Array:
    below = -null.observed[:, chosen] - np.interp(_FINE, null.at, null.limits(chosen, alpha))[:, None]
    high: Array = np.array([-_turn(column[::-1], -_FINE[::-1]) for column in below.T])
    high = np.where(_rejected(null, chosen, step, alpha, -1), np.minimum(high, step), high)
    _, most = _all_or_nothing(null, chosen, alpha)
    found: Array = np.maximum(high, most)
    return found


def _all_or_nothing(null: _Null, chosen: Array, alpha: float) -> tuple[Array, Array]:
    """Return the bounds if each item leaked all or nothing, and without noise (Clopper and Pearson 1934).

    No bounds are tighter: where all items agree, the spread that is seen is none, and says little.
    """
    from scipy.special import betaincinv

    attacks = [null.family.attacks[i] for i in chosen]
    n = np.array([one.items for one in attacks], float)
    room = np.array([one.room.sum() for one in attacks])
    excess = np.array([one.excess.sum() for one in attacks])
    x = n * np.clip(np.divide(excess, room, out=np.zeros_like(room), where=room != 0), 0, 1)
    error = 1 - (1 - alpha) ** (1 / len(attacks))
    low = np.where(x > 0, betaincinv(np.where(x > 0, x, 1.0), n - x + 1, error), 0.0)
    high = np.where(x < n, betaincinv(x + 1, np.where(x < n, n - x, 1.0), 1 - error), 1.0)
    return low, high


def _rejected(null: _Null, chosen: Array, leak: float, alpha: float, side: int) -> Array:
    """Return of which attacks chosen it is rejected that they leak at most this (side 1) or at least this (-1).

    Step-down (Romano and Wolf 2005): the most extreme attack is judged by the maximum over all, the next one by that
    over the others, until one is not rejected.
    """
    found = np.zeros(len(chosen), bool)
    if not null.flips:
        return found
    statistics = side * null.family.statistics(np.array([leak]))[0, chosen]
    flipped = null.of(leak, chosen)
    order = np.argsort(-statistics)
    left = np.concatenate([flipped[len(chosen) :], flipped[order[::-1]]])
    maxima = np.maximum.accumulate(left)[::-1]  # over an attack and all after it
    for step, attack in enumerate(order):
        if statistics[attack] <= _quantile(maxima[step], alpha):
            break
        found[attack] = True
    return found


@lru_cache(maxsize=4)
def sign_patterns(clusters: int) -> Array:
    """Return patterns of signs, [patterns, clusters]: all of them for few clusters, else no flip and random ones."""
    if clusters <= _ALL_PATTERNS:
        return 1.0 - 2 * ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1)
    drawn = np.random.default_rng(0).integers(0, 2, (FLIPS, clusters)) * 2.0 - 1
    drawn[0] = 1
    return drawn


def _quantile(maxima: Array, alpha: float) -> float:
    """Return what at most a share alpha of the maxima reaches, a hair above: what equals a maximum is no more."""
    place = math.ceil((1 - alpha) * len(maxima)) - 1
    return float(np.partition(maxima, place)[place]) + 1e-9


def _turn(above: Array, at: Array) -> float:
    """Return the leak up to which `above` is positive from the start on, between two of the grid; -inf: nowhere."""
    ends = np.flatnonzero(above <= 0)
    if not len(ends):
        return math.inf
    i = int(ends[0])
    if not i:
        return -math.inf
    share = above[i - 1] / (above[i - 1] - above[i])
    return float(at[i - 1] + share * (at[i] - at[i - 1]))


def _over(sums: Array, errors: Array) -> Array:
    """Return sums / errors, 0 where there is no error: there no bound is passed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(errors > 1e-9, sums / errors, 0.0)
    return found
