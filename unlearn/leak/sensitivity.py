"""What attacks could have seen: settled from the original and the control alone, before the unlearned model speaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from unlearn.leak.bounds import ALPHA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.leak.crossfit import Candidates

POWER = 0.80
Array = np.ndarray


@dataclass(frozen=True)
class Noise:
    """What stands between an attack and a leak, by variant, [C]."""

    room: Array
    """A_o - A_r over all that could be asked, as a sum over items; nan where that is fewer than two."""
    original: Array
    """Variance of the original's sum."""
    control: Array
    """Variance of the control's sum."""
    items: Array
    """How many could be asked."""
    clusters: int
    """Of how many clusters they are."""

    @classmethod
    def of(cls, candidates: Candidates, clusters: Sequence[str], resampled: bool = False) -> Noise:
        """Return the noise under each variant; resampled: see `Sums.of`."""
        names, of = np.unique(list(clusters), return_inverse=True)
        member = (of[:, None] == np.arange(len(names))).astype(float)
        asked = ~np.isnan(candidates.original + candidates.control).any(axis=1)  # [C, V]
        items = asked.sum(axis=1)

        def sum_and_variance(shown: Array) -> tuple[Array, Array]:
            shown = np.where(asked[:, None], shown, 0.0)
            mean = shown.mean(axis=1)
            centred = mean - asked * (mean.sum(axis=1) / np.maximum(items, 1))[:, None]
            spread = shown.sum(axis=2).var(axis=1) if resampled else 0.0
            between = ((centred @ member) ** 2).sum(axis=1) * len(names) / max(len(names) - 1, 1)
            return mean.sum(axis=1), between + spread

        (o, v_o), (r, v_r) = sum_and_variance(candidates.original), sum_and_variance(candidates.control)
        return cls(np.where(items >= 2, o - r, math.nan), v_o, v_r, items, len(names))

    def smallest(self, attacks: int = 1) -> float:
        """Return the smallest leak whose lower bound is above 0 with a probability of POWER; inf: there is none.

        It is the median over the variants. The unlearned model is thought to show what the original does in a share of
        the items that is the leak, else what another model would that never learned. Its error is therefore that of the
        control, twice, of the original, and of which items leak. attacks: how many bounds hold at once.
        """
        if self.clusters < 2:
            return math.inf
        reach = _reach(self.clusters, attacks)
        # d room = reach sqrt((2 - d) control + d original + d (1 - d) room^2 / items), solved for d
        with np.errstate(divide="ignore", invalid="ignore"):
            square = self.room**2 * (1 + reach**2 / self.items)
            linear = reach**2 * (self.original - self.control + self.room**2 / self.items)
            found = (linear + np.sqrt(linear**2 + 8 * square * reach**2 * self.control)) / (2 * square)
        return float(np.median(np.where(self.room > 0, found, math.inf)))


@lru_cache(maxsize=256)
def _reach(clusters: int, attacks: int) -> float:
    """Return how many standard errors off 0 a leak has to lie to be found."""
    from scipy.stats import t

    return float(t.ppf((1 - ALPHA) ** (1 / attacks), clusters - 1)) + NormalDist().inv_cdf(POWER)


def could_see(attacks: Mapping[str, Noise], leak: float) -> dict[str, float]:
    """Return the smallest leak that each attack would find, of as many attacks as could all see this leak together."""
    for together in range(len(attacks), 0, -1):
        found = {name: noise.smallest(together) for name, noise in attacks.items()}
        if sum(value <= leak for value in found.values()) >= together:
            return found
    return {name: noise.smallest() for name, noise in attacks.items()}
