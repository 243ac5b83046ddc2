"""Localization by connection sensitivity (SNIP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.localize.weights.scored import ByGradient, weights_of

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Snip(ByGradient):
    """Select by score = |theta g_f|: to first order, how much the forget loss changes where a weight is removed.

    Lee et al. 2019, SNIP (arXiv 1810.02340). It is WAGLE's limit for gamma to infinity.
    """

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores."""
        weight, forget = weights_of(subject), self.forget_gradients(subject, task, seed)
        return self.located(self.highest(subject, lambda name: weight(name) * forget.of(name)))
