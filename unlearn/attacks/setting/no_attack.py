"""No attack: what the models say when they are simply asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.base import Attacked, Brief, Suspect, Threat
from unlearn.attacks.setting.knowledge import judge
from unlearn.data.task import Task


@dataclass(frozen=True)
class Plain:
    """The questions as they are: A(0), which every attack is compared with. It runs before any other."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "none"
    reference: ClassVar[str] = ""

    def check(self, task: Task) -> None:
        """Any task can be asked."""

    def attack(self, suspect: Suspect, brief: Brief) -> Attacked:
        """One outcome."""
        return Attacked([judge(suspect, brief, "none", taught=True, counts=False)], budget="1 question an item")
