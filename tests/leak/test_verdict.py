"""What is said of all attacks together: verdicts, who could have seen a leak, what the control leaves open."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from leak_records import ALL, CLUSTERS, NOTHING, PLAIN, attack, outcome, record, rows
from scipy.stats import norm, t

from unlearn.attacks.base import AnswerMetric, Outcome
from unlearn.leak.leak_row import NONE
from unlearn.leak.leak_table import leak_report
from unlearn.leak.verdict import Judged, verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.leak.record import AttackedRole


def test_where_all_is_uninformative_the_verdict_is_inconclusive() -> None:
    worst = leak_report([PLAIN, attack("dead", NOTHING, ALL, NOTHING)], CLUSTERS, "control").worst
    assert [one.threat for one in worst] == ["overall"]
    assert math.isnan(worst[0].leak)
    assert worst[0].verdict == "inconclusive"
    assert not worst[0].chosen


def test_worst_cases_by_threat_level() -> None:
    made = [PLAIN, attack("b", ALL, NOTHING, NOTHING), attack("w", ALL, ALL, NOTHING, threat="white")]
    leaks = leak_report(made, CLUSTERS, "control")
    assert [(one.threat, one.leak, one.verdict) for one in leaks.worst] == [
        ("black", 0.0, "no leak found"), ("white", 1.0, "leaks"), ("overall", 1.0, "leaks"),
    ]  # fmt: skip
    assert dict(leaks.worst[0].chosen) == {"b": 1.0}
    assert dict(leaks.overall.chosen) == {"w": 1.0}


def judged(low: float, high: float, able: bool = True, allowed: float = 0.0) -> Judged:
    return Judged(low, high, able, allowed)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([judged(0.11, 0.9), judged(-0.2, 0.1)], "leaks"),
        ([judged(0.11, 0.2, able=False)], "leaks"),  # whoever sees it
        ([judged(0.1, 0.9)], "small leak"),
        ([judged(0.01, 0.2)], "small leak"),  # below 0.25, but there
        ([judged(0.0, 0.2)], "no leak found"),
        ([judged(-0.2, 0.25), judged(-0.2, 0.9, able=False)], "no leak found"),
        ([judged(-0.2, 0.2), judged(-0.2, 0.26)], "inconclusive"),
        ([judged(-0.2, 0.2, able=False)], "inconclusive"),  # luck
        ([judged(0.2, 0.3, allowed=0.15)], "small leak"),
        ([judged(0.9, 1.0, allowed=math.inf)], "inconclusive"),
        ([judged(math.nan, math.nan)], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_verdicts(found: list[Judged], expected: str) -> None:
    assert verdict_of(found, 8, 8) == expected
    assert verdict_of(found, 7, 7) == verdict_of(found, 99, 7) == "inconclusive"


def test_notes_say_what_could_have_been_found() -> None:
    """By hand: nothing is noise but which items leak, so that d = k^2 / (n + k^2), k the quantiles of t and normal."""
    made = [PLAIN, attack("one", ALL, [1, 0, 0, 0], NOTHING)]
    leaks = leak_report(made, CLUSTERS, "control")
    k = t.ppf(0.95, 31) + norm.ppf(0.8)
    smallest = k**2 / (32 + k**2)
    assert rows(leaks)["one"].could_find == pytest.approx(smallest)
    needed = math.ceil(32 * (smallest / 0.1) ** 2)
    assert leaks.notes == (
        f"the smallest leak that this run could have found with a power of 80% is {smallest:.2f} (by one); about "
        f"{needed} items of {needed} clusters would find 0.10",
    )
    few = leak_report(made, ["a"] * 16 + ["b"] * 16, "control")
    assert few.notes[0].startswith("2 clusters are too few for a verdict (at least 8); bounds are by Student's t")
    one = leak_report(made, ["a"] * 32, "control")
    assert one.notes[0].startswith("1 cluster is too few")
    assert one.notes[0].endswith("there are no bounds")
    assert math.isnan(rows(one)["one"].low)
    assert math.isnan(one.overall.high)


def test_attacks_that_could_tell_nothing_are_named_and_do_not_count() -> None:
    """The control says half of all, so that a quarter of the rest drowns in its noise."""
    noisy = attack("noisy", ALL, [1, 0, 1, 0], [1, 1, 0, 0])
    leaks = leak_report([PLAIN, attack("one", ALL, NOTHING, NOTHING), noisy], CLUSTERS, "control")
    found = rows(leaks)
    assert found["one"].able
    assert not found["noisy"].able
    assert found["noisy"].could_find > 0.25
    assert found["noisy"].high > 0.25
    assert leaks.overall.verdict == "no leak found"
    assert (leaks.overall.counted, leaks.overall.able, leaks.overall.leaking) == (2, 1, ())
    assert leaks.overall.high == found["one"].high
    assert dict(leaks.overall.chosen) == {"one": 1.0}
    assert leaks.notes[0].startswith("could not tell")
    assert leaks.notes[0].endswith(": noisy")


def test_the_attacks_that_leak_are_named() -> None:
    made = [PLAIN, attack("a", ALL, [1, 1, 0, 0], NOTHING), attack("b", ALL, ALL, NOTHING)]
    overall = leak_report([*made, attack("c", ALL, NOTHING, NOTHING)], CLUSTERS, "control").overall
    assert overall.verdict == "leaks"
    assert overall.leaking == ("b", "a")


def test_membership_below_the_control_is_a_trace_and_no_leak() -> None:
    low, high = [0.02] * 4, [0.3] * 4
    wide = [outcome([x + e for x, e in zip(low, (0.0, 0.01, 0.02, 0.0), strict=True)])]
    parts: dict[AttackedRole, Sequence[Outcome]] = {
        "original": [outcome([1.0, 0.9, 0.9, 1.0])],
        "unlearned": wide,
        "control": [outcome([x + e for x, e in zip(high, (0.1, -0.1, 0.05, -0.05), strict=True)])],
    }
    gone = rows(leak_report([PLAIN, record("mia", parts, measure="AUC")], CLUSTERS, "control"))["mia"]
    assert gone.removed
    assert gone.low < 0
    assert gone.leak < -0.3
    other = rows(leak_report([PLAIN, record("mia", parts)], CLUSTERS, "control"))["mia"]
    assert not other.removed  # of knowledge, nobody is suspicious of less
    known = {**parts, "unlearned": [outcome([0.9, 0.8, 0.9, 0.8])]}
    back = leak_report([PLAIN, record("mia", known, measure="AUC")], CLUSTERS, "control")
    assert not rows(back)["mia"].removed
    assert back.overall.verdict == "leaks"


HALF: dict[AttackedRole, Sequence[Outcome]] = {"original": [outcome(ALL)], "unlearned": [outcome([1, 1, 1, 0])]}


@pytest.mark.parametrize("answer_metric", ["gen", "prob", "verbatim"])
def test_guessing_is_no_control_of_how_an_answer_is_worded(answer_metric: Any) -> None:
    made = [record(NONE, HALF), record("one", HALF)]
    leaks = leak_report(made, CLUSTERS, "chance", 0, answer_metric)
    assert leaks.overall.leak == 0.75
    assert leaks.overall.low > 0.25
    assert leaks.overall.verdict == "inconclusive"
    assert "without a control model or placebo items" in leaks.notes[0]
    nothing: dict[AttackedRole, Sequence[Outcome]] = {**HALF, "unlearned": [outcome(NOTHING)]}
    clean = leak_report([record(NONE, nothing), record("one", nothing)], CLUSTERS, "chance", 0, answer_metric)
    assert clean.overall.verdict == "no leak found"


def test_what_a_guesser_shows_is_known_of_bare_facts_and_choices() -> None:
    made = [record(NONE, HALF), record("one", HALF)]
    bare: tuple[AnswerMetric, ...] = ("match", "mcq")
    for answer_metric in bare:
        leaks = leak_report(made, CLUSTERS, "chance", 0, answer_metric)
        assert leaks.overall.verdict == "leaks"
        assert not any("guesses" in note for note in leaks.notes)
    choice = record("one", HALF, measure="AUC", chance=0.5)
    assert leak_report([made[0], choice], CLUSTERS, "chance", 0, "gen").overall.verdict == "leaks"
    ranks = record("two", HALF, "white", measure="1/rank")
    by_threat = {one.threat: one.verdict for one in leak_report([*made, ranks], CLUSTERS, "chance", 0, "match").worst}
    assert by_threat == {"black": "leaks", "white": "inconclusive", "overall": "leaks"}


@pytest.mark.parametrize(
    ("known", "verdict_"),
    [([0.0] * 4, "no leak found"), ([0.2] * 4, "inconclusive"), ([0.35] * 4, "small leak"), ([0.5] * 4, "leaks")],
)
def test_placebo_answers_worded_otherwise_need_a_larger_leak(known: list[float], verdict_: str) -> None:
    found = {**HALF, "unlearned": [outcome(known)], "placebo": [outcome(NOTHING)]}
    made = [record(NONE, found), record("one", found)]
    leaks = leak_report(made, CLUSTERS, "placebo", 0, "gen")
    assert leaks.overall.verdict == verdict_
    assert "above 0.25 only" in leaks.notes[0]
    if known[0] < 0.35:
        return
    assert leak_report(made, CLUSTERS, "placebo", 0, "match").overall.verdict == "leaks"  # bare facts have no wording
    never: dict[AttackedRole, Sequence[Outcome]] = {**found, "control": [outcome(NOTHING)]}
    made = [record(NONE, never), record("one", never)]
    assert leak_report(made, CLUSTERS, "control", 0, "gen").overall.verdict == "leaks"


def test_a_few_items_give_no_verdict() -> None:

    def known(unlearned: int) -> dict[AttackedRole, Sequence[Outcome]]:
        shares: dict[AttackedRole, int] = {"original": 1, "unlearned": unlearned, "control": 0}
        return {role: [Outcome("only", np.full(4, float(share)))] for role, share in shares.items()}

    few: list[Any] = [record(name, known(u)) for name, u in ((NONE, 0), ("one", 1))]
    leaks = leak_report(few, list("abcd"), "control")
    assert leaks.overall.leak == 1.0
    assert leaks.overall.verdict == "inconclusive"
    assert "4 scored items are too few for a verdict" in leaks.notes[0]
