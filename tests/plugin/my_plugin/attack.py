"""An attack: from a model to how much of the forgotten it shows, made alike on all three models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.prompts.ask import ask_variants
from unlearn.data.task import Modality, Task

if TYPE_CHECKING:
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Shout:
    """The question in capitals, and with marks at its end."""

    marks: int = 3
    """How many exclamation marks."""

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "prompting"
    reference: ClassVar[str] = ""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Any question can be shouted."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return one outcome: each held-out item's question is asked once."""
        asked = [
            replace(item.probe, question=item.probe.question.upper() + "!" * self.marks)
            for item in setting.held_out_items
        ]
        found = ask_variants(subject, setting, {("shout", 0): asked})["shout", 0]
        return AttackResult([Outcome("shout", found.known, found.texts)], budget="1 question an item")
