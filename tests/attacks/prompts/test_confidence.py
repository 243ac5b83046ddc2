from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject
from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.prompts import confidence
from unlearn.attacks.prompts.confidence import Confidence, calibration_error
from unlearn.attacks.setting.answer_metric import AnswerScores, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.base import AttackSetting
    from unlearn.data.task import Question
    from unlearn.models.subject import Subject


def test_calibration_error_by_hand() -> None:
    # bin 0.9-1.0: confidence 0.95 and 0.95, right 1 and 0; bin 0.2-0.3: 0.2 and 0.28, right 0 and 0
    sure, right = np.array([0.95, 0.95, 0.2, 0.28]), np.array([1.0, 0, 0, 0])
    assert calibration_error(sure, right) == pytest.approx(2 / 4 * abs(0.95 - 0.5) + 2 / 4 * 0.24)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0
    assert np.isnan(calibration_error(sure[:0], right[:0]))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_error_by_brute_force(pairs: list[tuple[float, bool]]) -> None:
    total = 0.0
    for b in range(10):
        inside = [(c, r) for c, r in pairs if b == min(int(c * 10), 9)]
        if inside:
            total += abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) / len(pairs)
    sure, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs], float)
    assert calibration_error(sure, right) == pytest.approx(total)


def test_invented_answers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("Porto", "I don't know.", "Bern", "")

    def fake(
        subject: Subject, setting: AttackSetting, probes: Sequence[Question], answer_metric: object = None
    ) -> AnswerScores:
        if answer_metric == "prob":
            assert [probe.answer for probe in probes] == ["Porto", "I don't know.", "Bern"]
            return AnswerScores(np.array([0.9, 0.6, 0.8]), ("",) * 3)
        return AnswerScores(np.array([1.0, 0, 0, 0]), texts)

    monkeypatch.setattr(confidence, "ask", fake)
    attacked = Confidence().attack(subject(), setting("match"), NO_REFERENCES)
    (outcome,) = attacked.outcomes
    assert outcome.known.tolist() == [0, 0, 0.8, 0]
    assert not outcome.counts
    assert attacked.measure
    numbers = attacked.numbers
    assert numbers["right_forget"] == 0.25
    assert numbers["invented_forget"] == 0.5  # an empty answer is no refusal
    assert numbers["confidence_wrong_forget"] == pytest.approx(0.4)
    assert numbers["ece_forget"] == pytest.approx((0.1 + 0.8 + 0) / 3)


def test_confidence_is_the_probability_of_the_models_own_answer() -> None:
    attacked = Confidence().attack(subject(), replace(setting("match"), retain=(SCORED[0].probe,)), NO_REFERENCES)
    table = attacked.tables["confidence"].frame
    assert table["group"].tolist() == ["forget"] * 4 + ["retain"]
    for row, item in zip(table.itertuples(), SCORED, strict=False):
        if row.answer:
            probe = replace(item.probe, answer=str(row.answer))
            assert row.confidence == pytest.approx(ask(subject(), setting(), [probe], "prob").known[0], rel=1e-4)
