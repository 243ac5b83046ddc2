"""What three models show of items whose difficulty they share, with a leak that is known."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


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
