"""The whole report on models whose leak is known: variants, the filter of those without room, the verdict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from simulated import simulated

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak import bounds, leak_table
from unlearn.leak.leak_row import NONE
from unlearn.leak.leak_table import Leaks, leak_report
from unlearn.leak.record import AttackedRole, AttackRun, Record

if TYPE_CHECKING:
    from unlearn.leak.verdict import Verdict

ATTACKS, VARIANTS = 4, 5
ROLES: tuple[AttackedRole, ...] = ("original", "unlearned", "control")


@pytest.fixture(autouse=True)
def few_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds between these leaks are rough; the verdict needs no others."""
    monkeypatch.setattr(bounds, "_COARSE", np.array([-10.0, 0.0, 0.1, 0.25, 10.0]))


def reports(times: int, n: int, leak: float, knows: float) -> list[Leaks]:
    """Reports on attacks of several variants and one seed; items in pairs."""
    rng = np.random.default_rng(5)
    found = []
    for seed in range(times):
        shown = dict(zip(ROLES, simulated(rng, n, (ATTACKS, VARIANTS), leak, knows), strict=True))
        attacks = [_record(f"attack {i}", {role: of[i] for role, of in shown.items()}) for i in range(ATTACKS)]
        plain = _record(NONE, {role: of[0, :1] for role, of in shown.items()})
        found.append(leak_report([plain, *attacks], [str(i // 2) for i in range(n)], "control", seed))
    return found


def _record(name: str, shown: dict[AttackedRole, np.ndarray]) -> Record:
    outcomes = {role: [Outcome(str(i), known) for i, known in enumerate(of)] for role, of in shown.items()}
    found = {role: AttackRun(AttackResult(of)) for role, of in outcomes.items()}
    return Record(name, "white", "a family", "a paper", found)


def excess(reports_: list[Leaks]) -> float:
    return float(np.mean([row.excess for leaks in reports_ for row in leaks.rows[1:]]))


def said(reports_: list[Leaks], verdict: Verdict) -> float:
    return [leaks.overall.verdict for leaks in reports_].count(verdict) / len(reports_)


def test_nothing_is_found_where_nothing_leaks() -> None:
    found = reports(40, 160, leak=0.0, knows=0.9)
    assert np.mean([leaks.overall.leak for leaks in found]) == pytest.approx(0, abs=0.03)
    assert excess(found) == pytest.approx(0, abs=0.015)
    assert said(found, "leaks") == 0
    assert said(found, "no leak found") > 0.5


def test_half_a_leak_is_found() -> None:
    found = reports(40, 80, leak=0.5, knows=0.9)
    assert np.mean([leaks.overall.leak for leaks in found]) == pytest.approx(0.5, abs=0.05)
    assert said(found, "leaks") == 1


def test_the_filter_of_variants_without_room_biases_a_little_and_finds_no_leaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the original hardly knows more than who guesses, variants pass that have a control of bad luck."""
    marginal = partial(reports, 60, 40, leak=0.0, knows=0.28)
    found = marginal()
    assert 0 < excess(found) < 0.03
    assert said(found, "leaks") <= 0.02
    monkeypatch.setattr(leak_table, "with_room", lambda candidates, variants: (candidates, variants))
    assert excess(found) > excess(marginal()) == pytest.approx(0, abs=0.015)
