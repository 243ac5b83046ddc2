"""No attack: what the models say when they are simply asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.attacks.base import AttackResult, AttackSetting, Threat
from unlearn.attacks.setting.answer_metric import evaluate_attacked

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class NoAttack:
    """Ask the questions as they are: A(0), with which every attack is compared. It runs before any other."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "none"
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return one outcome."""
        return AttackResult(
            [evaluate_attacked(subject, setting, "none", with_attacker_items=True, counts=False)],
            budget="1 question an item",
        )
