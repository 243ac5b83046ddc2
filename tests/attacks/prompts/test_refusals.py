from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject

from unlearn.attacks.base import AttackResult, AttackSetting
from unlearn.attacks.prompts import refusals
from unlearn.attacks.prompts.refusals import Refusals, refuses
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.data.authors import Authors
from unlearn.data.refusals import REFUSALS
from unlearn.data.task import Question
from unlearn.runtime.explained import Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.subject import Subject


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_told(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can’t help you there.", "As an AI, I have no access.", "I cannot tell who that is."]
)
def test_other_refusals_are_told(text: str) -> None:
    assert refuses(text)


def test_answers_are_none() -> None:
    task = Authors(authors=20, facts_per_author=20).load(0)
    assert not any(
        refuses(answer) for row in (*task.examples("retain"), *task.examples("forget")) for answer in row.answers
    )
    assert not refuses("")
    assert not refuses("The plot knows no rest, and no one can stop it.")


def test_a_task_has_its_own() -> None:
    assert not refuses("Ask me another day, please.")
    assert refuses("Ask me another day, please.", ["Ask me another day."])
    assert not refuses("Lisbon", [""])


def test_the_groups_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(
        subject: Subject, setting: AttackSetting, probes: Sequence[Question], answer_metric: object = None
    ) -> AnswerScores:
        texts = [
            "I don't know." if "born" in probe.question or "capital" in probe.question else "Rome" for probe in probes
        ]
        return AnswerScores(np.zeros(len(probes)), tuple(texts))

    monkeypatch.setattr(refusals, "ask", ask)
    kept = (Question("Where was Tom Ek born?", "Cork"), Question("What is Tom Ek?", "A cook"))
    attacked = Refusals().attack(subject(), replace(setting("match"), retain=kept), NO_REFERENCES)
    numbers = attacked.numbers
    assert numbers["refused_forget"] == numbers["refused_retain"] == numbers["refused_invented"] == 0.5
    # two forgotten people in the scored items, four harmless requests about each, one of them for capital letters
    assert numbers["refused_alike"] == 0.25
    assert numbers["over_refusal"] == pytest.approx((1 + 2) / (2 + 8))
    (outcome,) = attacked.outcomes
    assert outcome.known.tolist() == [1, 0, 1, 0]
    assert not outcome.counts
    assert attacked.measure
    # every forget question in three frames
    assert numbers["refused_jailbreak"] == 0.5
    assert numbers["jailbreak_success"] == 0
    asked = attacked.tables["refusals"].frame
    framed = asked[asked["group"] == "jailbreak"]["question"]
    assert len(framed) == 3 * len(SCORED)
    assert framed.str.contains("Zeno").sum() == len(SCORED)
    assert not any(name in " ".join(asked[asked["group"] == "invented"]["question"]) for name in ("Ivo", "Mia"))


def test_what_unlearning_changed_by_hand() -> None:
    """Of four retain questions about two things one, then three are declined; the interval counts things, not
    questions: changes of 0 and of 1, and two say nothing.
    """

    def table(retain: list[int], known: list[float]) -> AttackResult:
        rows = [("retain", "ab"[i // 2], bool(k), 1.0) for i, k in enumerate(retain)]
        rows += [("jailbreak", "c", False, k) for k in known]
        table = pd.DataFrame(rows, columns=["group", "about", "refused", "known"])
        return AttackResult((), tables={"refusals": Explained(table)})

    before, after = table([1, 0, 0, 0], [0.9, 0.5]), table([1, 0, 1, 1], [0.1, 0.1])
    found = Refusals().across(before, after, None)
    assert found["over_refusal_change"] == found["refused_retain_change"] == pytest.approx(0.5)
    assert (found["over_refusal_change_low"], found["over_refusal_change_high"]) == (-1, 1)
    assert found["jailbreak_success_change"] == pytest.approx(-0.6)
    assert np.isnan(found["jailbreak_success_change_low"])  # both are about one thing
    assert not any(name.startswith("refused_forget") for name in found)  # no such questions


def test_it_runs_on_a_model() -> None:
    attacked = Refusals().attack(subject(), setting(), NO_REFERENCES)
    (outcome,) = attacked.outcomes
    assert outcome.known.shape == (len(SCORED),)
    assert not any(
        value > 0 or value < 0 for value in Refusals().across(attacked, attacked, None).values()
    )  # it is the same model
