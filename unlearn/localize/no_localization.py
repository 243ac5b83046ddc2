"""No localization: every weight may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class NoLocalization:
    """Select all weights. A run with it has no localization stage and no mask."""

    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of every tensor, whole."""
        from unlearn.models.mask import Mask

        return Localization(Mask.where(subject.module, lambda name: True))
