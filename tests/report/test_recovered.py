"""Examples of answers that an attack brought back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.leak.record import AttackRun
from unlearn.report.attacks_folder import read_attacks
from unlearn.report.recovered import Recovered, recovered

MakeRun = Callable[..., Path]
Attack = Callable[..., Any]


def _found(folder: Path) -> Recovered:
    return recovered(read_attacks(folder / "attacks"))


def test_who_shows_what(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    found = _found(folder)
    # relearning shows 9 items and the others show some of these; the control model shows item 11 when it is taught
    assert (found.count, found.reverse, found.n) == (9, 1, 12)
    # in turn, the most leaking first, each item once
    assert [(example.attack, example.asked.index) for example in found.examples] == [
        ("relearn", 0), ("sample", 1), ("prompts", 3), ("relearn", 2), ("sample", 4), ("prompts", 6),
    ]  # fmt: skip
    first = found.examples[0]
    assert (first.asked.question, first.asked.answer) == ("question 0?", "answer 0")
    assert (first.before, first.after) == ("unlearned: no idea 0", "unlearned: answer 0")
    assert first.variant == "5 rows, rate 1"
    assert found.examples[2].variant == "role play"


def _change(folder: Path, name: str, role: str, **known: np.ndarray) -> None:
    """Put another K in the place of an attack's every variant (or of those named)."""
    place = folder / "attacks" / name / role
    one = AttackRun.load(place)
    outcomes = [replace(o, known=known.get("every", o.known)) for o in one.result.outcomes]
    replace(one, result=replace(one.result, outcomes=outcomes)).save(place)


def test_what_the_model_says_anyway_is_not_recovered(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    _change(folder, "none", "unlearned", every=(np.arange(12) < 3).astype(float))  # items 0, 1, 2
    assert _found(folder).count == 6


def test_what_the_attacked_control_says_is_not_recovered(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    for name in ("relearn", "sample", "prompts"):
        _change(folder, name, "control", every=np.ones(12))
    found = _found(folder)
    assert found.count == 0
    assert not found.examples
    assert found.reverse == 9  # all that the unlearned model does not show under one of them: under prompts it shows 3


def test_without_a_control_model(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder, control="chance")
    found = _found(folder)
    assert found.count == 9
    assert found.reverse is None


def test_answers_that_were_not_generated(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    place = folder / "attacks/relearn/unlearned"
    one = AttackRun.load(place)
    silent = [replace(outcome, texts=()) for outcome in one.result.outcomes]
    replace(one, result=replace(one.result, outcomes=silent)).save(place)
    assert _found(folder).examples[0].after == "(nothing; K = 1.00)"


def test_what_is_not_knowledge_is_no_answer(make_run: MakeRun, attack: Attack) -> None:
    """A row that measures something else (an AUC, a rank) brings no answer back."""
    folder = make_run()
    attack(folder)
    attacks = read_attacks(folder / "attacks")
    rows = [replace(row, measure="AUC" if row.attack == "relearn" else row.measure) for row in attacks.leaks.rows]
    found = recovered(replace(attacks, leaks=replace(attacks.leaks, rows=tuple(rows))))
    assert found.examples
    assert all(example.attack != "relearn" for example in found.examples)
