"""How answers are drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Draw from p^(1/temperature), cut to the likeliest tokens that together hold top_p.

    The same seed draws the same answers whatever the batches.
    """

    temperature: float = 1.0
    """Above 1 flattens the distribution, below 1 sharpens it."""

    top_p: float = 1.0
    """Share of the probability that is kept, in (0, 1]."""

    seed: int = 0
    """Of the random numbers."""
