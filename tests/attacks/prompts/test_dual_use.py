from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import setting, subject
from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.base import AttackResult, AttackSetting
from unlearn.attacks.prompts import dual_use
from unlearn.attacks.prompts.dual_use import DualUse, area, rings_of
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.data.task import ProbeSet, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.subject import Subject

KEPT = {
    "entity": [
        Question("Where was Eva Lund born?", "Cork", cluster="Eva Lund"),  # shares a name with Ivo Lund
        Question("Who painted Mia Kask?", "Tom Ek", cluster="portraits"),
    ],
    "topic": [
        Question("Where was Tom Ek born?", "Cork", cluster="Tom Ek"),
        Question("What is the job of Tom Ek?", "judge", cluster="Tom Ek"),
    ],
    "field": [Question("What does Tom Ek sing?", "Songs", cluster="Tom Ek")],
    "far": [Question("What is the capital of Peru?", "Lima", cluster="Peru")],
}


def task_brief() -> AttackSetting:
    base = setting("match")
    retain = tuple(probe for ring in ("topic", "entity", "field") for probe in KEPT[ring])
    sets = (*base.task.probes, ProbeSet("r", "retain", retain), ProbeSet("w", "utility", tuple(KEPT["far"])))
    return replace(base, task=replace(base.task, probes=sets))


def test_each_question_is_in_its_nearest_ring() -> None:
    rings = {ring: [item.probe for item in items] for ring, items in rings_of(task_brief()).items()}
    assert rings == KEPT


def test_knowledge_by_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"Where was Tom Ek born?": 0.5, "What is the job of Tom Ek?": 0.7, "What does Tom Ek sing?": 0.9}

    def ask(
        subject: Subject, setting: AttackSetting, probes: Sequence[Question], answer_metric: object = None
    ) -> AnswerScores:
        known = [1.0 if "Peru" in p.question else values.get(p.question, 0.2) for p in probes]
        return AnswerScores(np.array(known), ("",) * len(probes))

    monkeypatch.setattr(dual_use, "ask", ask)
    attacked = DualUse().attack(subject(), task_brief(), NO_REFERENCES)
    table = attacked.tables["rings"].frame
    assert table["known"].tolist() == pytest.approx([0.2, 0.2, 0.6, 0.9, 1.0])
    assert table["n"].tolist() == [
        4,
        2,
        2,
        1,
        1,
    ]
    # trapezoids over the distances 1 to 4: (0.4 + 0.75 + 0.95) / 3
    assert attacked.numbers["area"] == pytest.approx(0.7)
    assert not attacked.outcomes[0].counts


def test_collateral_damage_by_hand() -> None:
    def of(**numbers: float) -> AttackResult:
        return AttackResult((), numbers=numbers)

    original = of(known_forget=1, known_entity=0.9, known_far=0.8, area=0.85)
    unlearned = of(known_forget=0, known_entity=0.3, known_far=0.7, area=0.5)
    retain = of(known_forget=0, known_entity=0.8, known_far=0.8, area=0.8)
    found = DualUse().across(original, unlearned, retain)
    expected = {"collateral": 0.35, "collateral_entity": 0.6, "collateral_far": 0.1, "collateral_retain": 0.05}
    assert found == pytest.approx(expected)
    assert "collateral_retain" not in DualUse().across(original, unlearned, None)


def test_a_task_without_such_questions_has_only_its_forget_items() -> None:
    attacked = DualUse().attack(subject(), setting(), NO_REFERENCES)
    assert attacked.tables["rings"].frame["ring"].tolist() == ["forget"]
    assert np.isnan(attacked.numbers["area"])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=4))
def test_the_area_lies_between_its_values(known: list[float]) -> None:
    assert min(known) - 1e-9 <= area(np.arange(len(known), dtype=float), np.array(known)) <= max(known) + 1e-9


def test_a_single_ring_is_its_own_area() -> None:
    assert area(np.array([4.0]), np.array([0.3])) == 0.3
