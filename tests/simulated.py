"""What three models show of items whose difficulty they share, with a leak that is known."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Simulated(NamedTuple):
    """An attack: of all items the original shows the share `knows`, who never learned `guesses`; the leak is known."""

    knows: float
    guesses: float
    leak: float = 0.0


def simulated(
    rng: np.random.Generator, n: int, runs: tuple[int, ...], leak: float, knows: float = 0.9, guesses: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K of the original, the unlearned and the control model, [*runs, n] each: 0 or 1.

    Of all items that there could be the original knows the share `knows`, one that never learned `guesses`. The
    unlearned model shows what the original does with probability `leak`, else it guesses too; so its leak is `leak`.
    """
    difficulty = rng.normal(size=n)

    def shown(share: float) -> np.ndarray:
        ease = rng.normal(size=(*runs, n)) + difficulty
        return (ease > NormalDist(0, 2**0.5).inv_cdf(1 - share)).astype(float)

    original, retain = shown(knows), shown(guesses)
    kept = rng.random((*runs, n)) < leak
    return original, np.where(kept, original, shown(guesses)), retain


def simulated_clusters(
    rng: np.random.Generator, shape: tuple[int, int], icc: float, attacks: Sequence[Simulated]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K of the three models under several attacks, [attacks, clusters x items] each: 0 or 1, anew for each.

    shape: clusters and items of each. icc: the share of the variance of difficulty that items of a cluster have in
    common, and of whether they leak.
    """
    clusters, items = shape

    def difficulty() -> np.ndarray:
        common: np.ndarray = rng.normal(size=clusters).repeat(items)
        drawn: np.ndarray = icc**0.5 * common + (1 - icc) ** 0.5 * rng.normal(size=clusters * items)
        return drawn

    hard = difficulty()

    def shown(share: float) -> np.ndarray:
        ease: np.ndarray = rng.normal(size=hard.shape) + hard
        return (ease > NormalDist(0, 2**0.5).inv_cdf(1 - share)).astype(float)

    found = []
    for attack in attacks:
        original, guessed, control = shown(attack.knows), shown(attack.guesses), shown(attack.guesses)
        kept = difficulty() > NormalDist().inv_cdf(1 - attack.leak) if attack.leak else np.zeros(hard.shape, bool)
        found.append((original, np.where(kept, original, guessed), control))
    original, unlearned, control = np.array(found).transpose(1, 0, 2)
    return original, unlearned, control
