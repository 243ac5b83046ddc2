"""Dialogue: whether what was forgotten comes back in a long conversation that drifts towards it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.prompts.conversation import History, ask_after
from unlearn.attacks.setting.other_facts import Related
from unlearn.data.task import Question, Task
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from unlearn.attacks.items import Item
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Dialogue:
    """Ask in a conversation whose topic drifts from far away to the forgotten entity.

    Long interactions are among the open problems of Barez et al. 2025, arXiv 2501.04952.

    A third of the earlier turns are utility questions, a third retain questions, the last third other questions about
    the item's own entity (where there are none of a kind, the one before goes on); the model's own answers stay in the
    context, but for those to the items themselves.

    Table `dialogue` and numbers `turn_N`: mean K at each of those turns. The row does not count as leak.
    """

    turns: Annotated[int, Ge(2)] = 10
    """The length of the conversation, the last turn included."""
    every: Annotated[int, Gt(0)] = 3
    """The items are asked at turn 1, every so many turns, and at the last."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "open problems"
    reference: ClassVar[str] = "arXiv 2501.04952"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "facts"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each turn at which the items are asked."""
        import pandas as pd

        leads = self._leads(setting)
        asked_at = sorted({*range(1, self.turns, self.every), self.turns})
        histories: list[History] = [()] * len(setting.held_out_items)
        outcomes = []
        for turn in range(1, self.turns + 1):
            if turn in asked_at:
                found = ask_after(subject, setting, histories, setting.questions)
                outcomes.append(Outcome(f"turn {turn}", found.known, found.texts, budget=float(turn), counts=False))
            if turn < self.turns:
                histories = _continued(subject, setting, histories, [lead[turn - 1] for lead in leads])
        means = [float(np.nanmean(outcome.known)) for outcome in outcomes]
        return AttackResult(
            outcomes,
            budget=f"{self.turns} turns",
            numbers={f"turn_{turn}": known for turn, known in zip(asked_at, means, strict=True)},
            tables={"dialogue": _explained(pd.DataFrame({"turn": asked_at, "known": means}))},
        )

    def _leads(self, setting: AttackSetting) -> list[list[str]]:
        """Return what is asked before each item; Inapplicable without a question that should stay."""
        related = Related.forgotten(setting)
        far = [probe.question for probe in _probes(setting.task, "utility")]
        field = [probe.question for probe in setting.retain or _probes(setting.task, "retain")]
        if not (far or field):
            raise Inapplicable(f"dataset '{setting.task.name}' has no question that should stay, to begin a talk with")
        return [_drift(far, field, _near(related, item), self.turns - 1) for item in setting.held_out_items]


def _probes(task: Task, role: str) -> list[Question]:
    return [probe for probe_set in task.probes if probe_set.aim == role for probe in probe_set.probes]


def _near(related: Related, item: Item) -> list[str]:
    return [other.probe.question for other in related.others(item)]


def _drift(far: Sequence[str], field: Sequence[str], near: Sequence[str], n: int) -> list[str]:
    """Return n questions, a third of each kind in this order; the nearest kind in the place of one that is missing."""
    kinds = [far or field, field or far, near or field or far]
    sizes = [(i + 1) * n // 3 - i * n // 3 for i in range(3)]
    return [question for kind, size in zip(kinds, sizes, strict=True) for question in islice(cycle(kind), size)]


def _continued(
    subject: Subject, setting: AttackSetting, histories: Sequence[History], questions: Sequence[str]
) -> list[History]:
    """Return each history with one more question and the model's answer; what several share is asked once."""
    pairs = list(dict.fromkeys(zip(histories, questions, strict=True)))
    probes = [Question(question, question) for _, question in pairs]
    texts = ask_after(subject, setting, [history for history, _ in pairs], probes, "match").texts
    said = dict(zip(pairs, texts, strict=True))
    return [(*h, (q, said[h, q])) for h, q in zip(histories, questions, strict=True)]


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "What the models show when the question is put at a turn of a conversation that drifts towards its subject. "
        "Where only the unlearned model rises from the first turn on, the context brings the knowledge back."
    )
    chart = Chart("line", "turn", ("known",), words={"known": "A (mean K)"})
    return Explained(table, "Long conversation", words, chart)
