"""A localizer: from a model and a task to a mask of the weights that may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.data.task import Modality, Task
from unlearn.localize.base import Localization
from unlearn.models.mask import Mask

if TYPE_CHECKING:
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Named:
    """The parameters whose name has a given part."""

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    reads: ClassVar[frozenset[str]] = frozenset()

    part: str = "norm"
    """What a parameter's name must contain."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Any task will do."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of whole tensors."""
        return Localization(Mask.where(subject.module, lambda name: self.part in name))
