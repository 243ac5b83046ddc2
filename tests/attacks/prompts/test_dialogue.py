from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject

from unlearn.attacks.base import AttackSetting, Inapplicable
from unlearn.attacks.prompts import dialogue
from unlearn.attacks.prompts.dialogue import Dialogue, _drift
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.data.task import ProbeSet, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.prompts.conversation import History
    from unlearn.models.subject import Subject

KEPT = (Question("Where was Tom Ek born?", "Cork"), Question("Where was Eva Ros born?", "Lyon"))
FAR = (Question("What is the capital of Peru?", "Lima"),)


def task_brief() -> AttackSetting:
    base = replace(setting("match"), retain=KEPT)
    return replace(base, task=replace(base.task, probes=(*base.task.probes, ProbeSet("w", "utility", FAR))))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((["a"], ["b", "c"], ["d", "e"]), "aaabcbded"),
        (([], ["b"], ["d"]), "bbbbbbddd"),
        ((["a"], [], []), "aaaaaaaaa"),
    ],
)
def test_the_topic_drifts_in_thirds(kinds: tuple[str, str, str], expected: str) -> None:
    assert "".join(_drift(*kinds, 9)) == expected


def test_items_are_asked_on_the_way_and_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[History, str]] = []

    def ask_after(
        subject: Subject,
        setting: AttackSetting,
        histories: Sequence[History],
        probes: Sequence[Question],
        answer_metric: object = None,
    ) -> AnswerScores:
        asked.extend((history, probe.question) for history, probe in zip(histories, probes, strict=True))
        return AnswerScores(np.array([len(history) / 10 for history in histories]), ("said",) * len(probes))

    monkeypatch.setattr(dialogue, "ask_after", ask_after)
    attacked = Dialogue(turns=4, every=2).attack(subject(), task_brief(), NO_REFERENCES)
    assert [o.variant for o in attacked.outcomes] == ["turn 1", "turn 3", "turn 4"]
    assert attacked.numbers == {"turn_1": 0, "turn_3": pytest.approx(0.2), "turn_4": pytest.approx(0.3)}
    assert [o.budget for o in attacked.outcomes] == [1, 3, 4]
    assert not any(o.counts for o in attacked.outcomes)
    born, job = (item.probe.question for item in SCORED[:2])
    turns = ((FAR[0].question, "said"), (KEPT[0].question, "said"))
    assert (turns, born) in asked
    assert ((*turns, (job, "said")), born) in asked
    # the first turns are the same for all items, and asked once
    assert sum(question == FAR[0].question for _, question in asked) == 1
    assert sum(question == KEPT[0].question for _, question in asked) == 1


def test_it_needs_something_to_talk_about() -> None:
    with pytest.raises(Inapplicable, match="no question that should stay"):
        Dialogue().attack(subject(), setting(), NO_REFERENCES)


def test_it_runs_on_a_model() -> None:
    attacked = Dialogue(turns=3, every=1).attack(subject(), task_brief(), NO_REFERENCES)
    assert attacked.tables["dialogue"].frame["turn"].tolist() == [1, 2, 3]
