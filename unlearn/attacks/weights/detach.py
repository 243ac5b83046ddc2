"""Detaching: where unlearning is an adapter or a filter on top, the weights below still know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Threat
from unlearn.attacks.weights.changes import ChangedModel, Visit, evaluate_variants

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Detach:
    """Load the weights without the adapter, prompt or filter that unlearns.

    L = 1 by construction where there is one, but only there: what `unlearn run lora=...` releases is the merged model,
    whose adapter no longer comes off. The original and the control model have nothing to detach, and are asked as they
    are.
    """

    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = "removal"
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    randomised: ClassVar[bool] = False

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return one outcome."""
        return AttackResult(evaluate_variants(self, subject, setting), budget="1 load")

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Visit the model below. Inapplicable where the weights themselves were changed."""
        if not subject.layered and subject.role == "unlearned":
            raise Inapplicable("not applicable: the weights themselves were changed (a merged adapter is gone)")
        visit(ChangedModel("detached", subject.stripped()))
