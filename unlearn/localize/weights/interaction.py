"""Localization by where forget and retain gradients meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.localize.weights.scored import ByTwoGradients

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Interaction(ByTwoGradients):
    """Select by score = |g_f g_r|: the weights on which both the forget and the retain loss depend.

    WAGLE's limit for gamma to 0 (Jia et al. 2024, arXiv 2410.17509), and in effect what its released settings select.
    It prefers weights that matter to both, and does not spare what the retain rows need.
    """

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores."""
        forget, retain = self.forget_gradients(subject, task, seed), self.retain_gradients(subject, task, seed)
        return self.located(self.highest(subject, lambda name: forget.of(name) * retain.of(name)))
