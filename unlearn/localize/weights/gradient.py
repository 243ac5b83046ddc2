"""Localization by gradient saliency (SalUn)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.localize.base import Fraction, Localization
from unlearn.localize.weights.scored import ByGradient

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Gradient(ByGradient):
    """Select by score = |g_f|: how fast the forget loss changes with a weight.

    Fan et al. 2024, SalUn (arXiv 2310.12508), which selects the weights above the median: half of them.
    """

    select: Fraction = 0.5
    """Share of the scored weights that may change."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores."""
        return self.located(self.highest(subject, self.forget_gradients(subject, task, seed).of))
