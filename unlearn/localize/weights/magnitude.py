"""Localization by the size of the weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.localize.weights.scored import Scored, weights_of

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Magnitude(Scored):
    """Select by score = |theta|: the largest weights of the model, whatever is to be forgotten.

    A baseline of WAGLE (Jia et al. 2024, arXiv 2410.17509).
    """

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores."""
        return self.located(self.highest(subject, weights_of(subject)))
