"""No localization: every weight may change."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.data.task import Task
from unlearn.localize.base import Located, Subject


@dataclass(frozen=True)
class Everything:
    """The mask that selects all weights. A run with it has no localization stage and no mask."""

    def check(self, task: Task) -> None:
        """Any task will do."""

    def localize(self, subject: Subject) -> Located:
        """Every tensor, whole."""
        from unlearn.models.mask import Mask

        return Located(Mask.where(subject.model, lambda name: True))
