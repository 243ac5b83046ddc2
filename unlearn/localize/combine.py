"""Combine masks: what both of two localizers select, what either does, what one does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization, Localizer

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Pair(ABC):
    """Ask two localizers for their masks; the two masks and their overlap (IoU) are kept beside the result.

    Either may itself be a combination.
    """

    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1

    first: Localizer
    """One localizer: localize@localize.first=NAME."""
    second: Localizer
    """The other: localize@localize.second=NAME."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what both read."""
        return self.first.reads | self.second.reads

    def check(self, task: Task, setting: RunSetting) -> None:
        """Ask both whether they can run."""
        for part in (self.first, self.second):
            part.check(task.only(part.reads), setting)

    @abstractmethod
    def combine(self, first: Mask, second: Mask) -> Mask:
        """Return the mask of the two."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Ask both. Where both give a table of the same name, the second one's is called second_NAME."""
        first, second = (part.localize(subject, task.only(part.reads), seed) for part in (self.first, self.second))
        numbers = {f"{which}.{name}": n for which, part in _named(first, second) for name, n in part.numbers.items()}
        numbers |= {f"{which}.fraction": part.mask.fraction for which, part in _named(first, second)}
        words = {f"{which}.{name}": w for which, part in _named(first, second) for name, w in part.words.items()}
        tables = dict(first.tables)
        for name, table in second.tables.items():
            while name in tables:  # more than once, where the parts are combinations
                name = f"second_{name}"
            tables[name] = table
        return Localization(
            self.combine(first.mask, second.mask),
            {"iou": first.mask.iou(second.mask), **numbers},
            tables,
            {which: part.mask for which, part in _named(first, second)},
            {"iou": "Overlap (IoU) of the two masks that are combined.", **words},
        )


@dataclass(frozen=True)
class Intersection(Pair):
    """Select the weights that both localizers select."""

    def combine(self, first: Mask, second: Mask) -> Mask:
        """Return first & second."""
        return first & second


@dataclass(frozen=True)
class Union(Pair):
    """Select the weights that either localizer selects."""

    def combine(self, first: Mask, second: Mask) -> Mask:
        """Return first | second."""
        return first | second


@dataclass(frozen=True)
class Complement:
    """Select the weights that the localizer `of` does not select: the control for "does it matter where?"."""

    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1

    of: Localizer
    """The localizer whose mask is inverted: localize@localize.of=NAME."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what `of` reads."""
        return self.of.reads

    def check(self, task: Task, setting: RunSetting) -> None:
        """Ask `of` whether it can run."""
        self.of.check(task, setting)

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Ask `of`; its mask is kept beside the result."""
        located = self.of.localize(subject, task, seed)
        return Localization(~located.mask, located.numbers, located.tables, {"of": located.mask}, located.words)


def _named(first: Localization, second: Localization) -> tuple[tuple[str, Localization], tuple[str, Localization]]:
    return ("first", first), ("second", second)
