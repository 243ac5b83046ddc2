"""The leak table: numbers by hand, what is uninformative or failed, the controls, the choice of variants, ladders."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from leak_records import ALL, CLUSTERS, NOTHING, PLAIN, Ks, attack, outcome, record, rows

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.ladder import LadderStep, recovery
from unlearn.leak.leak_row import NONE, Row
from unlearn.leak.leak_table import leak_report
from unlearn.leak.record import AttackedRole, AttackRun, Record
from unlearn.leak.verdict import Worst

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_a_row_by_hand() -> None:
    plain = attack(NONE, [1, 1, 1, 0.5], [0.5, 0, 0, 0], [0, 0, 0, 0.5])
    # A(0) = 0.875, 0.125, 0.125; under the attack 0.75, 0.5, 0.25
    about = {"on_attacker_items": 0.9, "utility": 0.6}
    one = attack("one", [1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], unlearned=about, data="3 items", budget="9 steps")
    row = rows(leak_report([plain, one], CLUSTERS, "control"))["one"]
    assert (row.original, row.unlearned, row.control, row.before) == (0.75, 0.5, 0.25, 0.125)
    assert row.gain == pytest.approx((0.5 - 0.125) / (0.875 - 0.125))
    assert row.excess == pytest.approx(0.25)
    assert row.leak == pytest.approx(0.5)
    assert row.low <= 0.5 <= row.high
    assert (row.on_attacker_items, row.utility, row.seconds, row.gflop) == (0.9, 0.6, 6.0, 9.0)
    assert (row.data, row.budget, row.status, row.reason, row.variant) == ("3 items", "9 steps", "ok", "", "only")
    assert (row.family, row.threat, row.reference, row.counts) == ("a family", "black", "a paper", True)
    assert math.isnan(row.cost)
    assert math.isnan(row.area)  # no ladder


def test_damage_is_a_negative_leak() -> None:
    row = rows(leak_report([PLAIN, attack("one", ALL, NOTHING, [1, 1, 0, 0])], CLUSTERS, "control"))["one"]
    assert row.leak == pytest.approx(-1.0)
    assert row.excess == -0.5


def test_without_an_attack_the_row_is_there_and_never_the_worst_case() -> None:
    leaks = leak_report([attack(NONE, ALL, ALL, NOTHING), attack("one", ALL, NOTHING, NOTHING)], CLUSTERS, "control")
    assert leaks.rows[0].attack == NONE
    assert leaks.rows[0].leak == 1.0
    assert leaks.rows[0].gain == 0.0
    assert leaks.overall.leak == 0.0
    assert dict(leaks.overall.chosen) == {"one": 1.0}


@pytest.mark.parametrize(("o", "r"), [([0, 0, 0, 0], NOTHING), ([1, 1, 1, 0], ALL), ([1, 1, 1, 1], ALL)])
def test_uninformative_rows_are_kept_and_marked(o: list[float], r: list[float]) -> None:
    leaks = leak_report([PLAIN, attack("dead", o, ALL, r), attack("fine", ALL, NOTHING, NOTHING)], CLUSTERS, "control")
    row = rows(leaks)["dead"]
    assert row.status == "uninformative"
    assert "nothing to leak" in row.reason
    assert [row.original, row.unlearned, row.control] == [np.mean(o), 1.0, np.mean(r)]
    assert row.excess == pytest.approx(1 - np.mean(r))
    assert math.isnan(row.leak + row.low + row.high)
    assert "dead" not in leaks.overall.chosen


def test_failed_attacks_are_rows_that_say_why() -> None:
    skipped = Record("skipped", "grey", "a family", "a paper", {"original": AttackRun.failed("skipped", "no adapter")})
    partial: dict[AttackedRole, AttackRun] = {
        "original": AttackRun(AttackResult([outcome(ALL)])),
        "unlearned": AttackRun.failed("error", "ValueError: x"),
    }
    broken = Record("broken", "white", "a family", "a paper", partial)
    leaks = leak_report([PLAIN, skipped, broken, attack("fine", ALL, ALL, NOTHING)], CLUSTERS, "control")
    assert [row.attack for row in leaks.rows] == [NONE, "skipped", "broken", "fine"]
    found = {name: (row.threat, row.status, row.reason) for name, row in rows(leaks).items() if row.status != "ok"}
    assert found == {"skipped": ("grey", "skipped", "no adapter"), "broken": ("white", "error", "ValueError: x")}
    numbers = [getattr(rows(leaks)["broken"], f.name) for f in fields(Row) if f.type == "float"]
    assert all(map(math.isnan, numbers))
    assert [one.threat for one in leaks.worst] == ["black", "overall"]
    assert leaks.overall.verdict == "leaks"


def test_where_asking_plainly_failed_there_is_no_gain() -> None:
    plain = Record(NONE, "black", "none", "", {"original": AttackRun.failed("error", "x")})
    row = rows(leak_report([plain, attack("one", ALL, ALL, NOTHING)], CLUSTERS, "control"))["one"]
    assert row.leak == 1.0
    assert math.isnan(row.gain)


def test_no_gain_where_there_was_nothing_to_forget() -> None:
    row = rows(leak_report([attack(NONE, ALL, ALL, ALL), attack("one", ALL, ALL, NOTHING)], CLUSTERS, "control"))["one"]
    assert math.isnan(row.gain)
    assert row.leak == 1.0


DIFFERENT: dict[str, Any] = {
    "other variants": {"control": [outcome(NOTHING, "b")]},
    "other rows": {"control": [outcome(NOTHING, row="x")]},
    "more": {"control": [outcome(NOTHING), outcome(NOTHING, "b")]},
    "fewer items": {role: [outcome([1, 1])] for role in ("original", "unlearned", "control")},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_models_that_were_not_asked_the_same_are_an_error_of_that_attack_alone(name: str) -> None:
    odd = record("odd", {"original": [outcome(ALL)], "unlearned": [outcome(ALL)], **DIFFERENT[name]})
    leaks = leak_report([PLAIN, odd, attack("fine", ALL, ALL, NOTHING)], CLUSTERS, "control")
    assert rows(leaks)["odd"].status == "error"
    assert "not asked the same" in rows(leaks)["odd"].reason
    assert leaks.overall.leak == 1.0


def test_an_attack_that_was_not_made_on_the_control_is_skipped() -> None:
    half = record("half", {"original": [outcome(ALL)], "unlearned": [outcome(ALL)]})
    row = rows(leak_report([PLAIN, half], CLUSTERS, "control"))["half"]
    assert (row.status, row.reason) == ("skipped", "it was not made on every model")


def test_no_item_that_all_models_can_be_asked() -> None:
    nan = math.nan
    row = rows(leak_report([PLAIN, attack("one", [1, 1, nan, nan], [nan, nan, 1, 1], NOTHING)], CLUSTERS, "control"))
    assert row["one"].status == "uninformative"
    assert "no item could be asked" in row["one"].reason


def test_placebo_items_are_the_control_where_they_are_named() -> None:
    found: dict[AttackedRole, Sequence[Outcome]] = {"original": [outcome(ALL)], "unlearned": [outcome([1, 1, 0, 0])]}
    plain = record(NONE, {**found, "placebo": [outcome(NOTHING)]})
    one = record("one", {**found, "placebo": [outcome([1, 0, 0, 0])]})
    leaks = leak_report([plain, one], CLUSTERS, "placebo")
    assert leaks.baseline == "placebo"
    assert rows(leaks)["one"].control == 0.25
    assert rows(leaks)["one"].leak == pytest.approx((0.5 - 0.25) / (1 - 0.25))


def test_chance_is_zero_on_the_items_that_were_asked() -> None:
    nan = math.nan
    found: dict[AttackedRole, Sequence[Outcome]] = {
        "original": [outcome([1, 1, 1, nan])],
        "unlearned": [outcome([1, 0, 0, nan])],
    }
    row = rows(leak_report([record(NONE, found), record("one", found)], CLUSTERS, "chance"))["one"]
    assert row.control == 0.0
    assert row.leak == pytest.approx(1 / 3)


def test_the_attackers_own_items_choose_for_each_model_and_seed() -> None:
    """Not the best on the scored items: the one that the attacker holds for the best."""

    def two(known: Ks, choices: dict[str, float], seed: int) -> list[Outcome]:
        return [outcome(known[v], v, seed=seed, self_estimate=choices[v]) for v in ("mild", "harsh")]

    found: dict[AttackedRole, Sequence[Outcome]] = {
        "original": two({"mild": ALL, "harsh": NOTHING}, {"mild": 0.9, "harsh": 0.1}, 0)
        + two({"mild": ALL, "harsh": [1, 1, 0, 0]}, {"mild": 0.1, "harsh": 0.9}, 1),
        "unlearned": two({"mild": [1, 0, 0, 0], "harsh": ALL}, {"mild": 0.9, "harsh": 0.1}, 0)
        + two({"mild": ALL, "harsh": [1, 1, 1, 0]}, {"mild": math.nan, "harsh": -0.5}, 1),
        "control": two({"mild": ALL, "harsh": NOTHING}, {"mild": 0.1, "harsh": 0.2}, 0)
        + two({"mild": ALL, "harsh": NOTHING}, {"mild": 0.1, "harsh": 0.2}, 1),
    }
    row = rows(leak_report([PLAIN, record("one", found)], CLUSTERS, "control"))["one"]
    assert row.original == (1.0 + 0.5) / 2
    assert row.unlearned == (0.25 + 0.75) / 2  # nan is the worst choice of all
    assert row.control == 0.0
    assert row.variant == "harsh / mild"


def test_variants_without_a_choice_are_cross_fitted_and_the_usual_one_named() -> None:
    known = {"weak": [0.1, 0.0, 0.1, 0.0], "strong": [1.0, 1.0, 1.0, 1.0]}
    found: dict[AttackedRole, Sequence[Outcome]] = {
        "original": [outcome(ALL, v) for v in known],
        "unlearned": [outcome(k, v, on_attacker_items=0.2 if v == "weak" else 0.7) for v, k in known.items()],
        "control": [outcome(NOTHING, v) for v in known],
    }
    row = rows(leak_report([PLAIN, record("one", found)], CLUSTERS, "control"))["one"]
    assert row.leak == 1.0
    assert row.variant == "strong"
    assert row.on_attacker_items == 0.7


def test_a_variant_that_is_made_once_stands_beside_one_with_several_seeds() -> None:
    def of(known: Sequence[float]) -> list[Outcome]:
        return [outcome(NOTHING, "fixed"), *(outcome(known, "random", seed=seed) for seed in range(3))]

    found: dict[AttackedRole, Sequence[Outcome]] = {
        "original": of(ALL),
        "unlearned": of([1, 1, 0, 0]),
        "control": of(NOTHING),
    }
    row = rows(leak_report([PLAIN, record("one", found)], CLUSTERS, "control"))["one"]
    assert row.status == "ok"
    assert row.variant == "random"


def test_parts_are_rows_of_their_own_and_diagnostics_do_not_count() -> None:
    def of(known: Sequence[float]) -> list[Outcome]:
        return [outcome(known, row="direct"), outcome(known, row="hidden", counts=False)]

    found: dict[AttackedRole, Sequence[Outcome]] = {"original": of(ALL), "unlearned": of(ALL), "control": of(NOTHING)}
    leaks = leak_report([PLAIN, record("one", found, threat="white")], CLUSTERS, "control")
    assert [(row.attack, row.counts, row.leak) for row in leaks.rows[1:]] == [
        ("one_direct", True, 1.0), ("one_hidden", False, 1.0),
    ]  # fmt: skip
    assert set(leaks.overall.chosen) == {"one_direct"}
    assert leaks.rows[1].seconds == 6.0


def test_another_measure_has_no_gain_and_is_named() -> None:
    one = attack("one", [0.9] * 4, [0.7] * 4, [0.5] * 4, measure="AUC")
    row = rows(leak_report([PLAIN, one], CLUSTERS, "control"))["one"]
    assert row.measure == "AUC"
    assert math.isnan(row.gain)
    assert math.isnan(row.before)
    assert row.leak == pytest.approx(0.5)


def ladder(**leaks: Sequence[float]) -> list[Record]:
    """An attack at budgets 1, 10 and 100 that gets these shares of the four items out of the unlearned model."""
    made = []
    for name, known in leaks.items():
        budgets = (1.0, 10.0, 100.0)[: len(known)]
        names = dict(zip(budgets, map(str, budgets), strict=True))
        found: dict[AttackedRole, Sequence[Outcome]] = {
            "original": [outcome(ALL, names[b], budget=b) for b in budgets],
            "unlearned": [outcome([k] * 4, names[b], budget=b) for b, k in zip(budgets, known, strict=True)],
            "control": [outcome(NOTHING, names[b], budget=b) for b in budgets],
        }
        made.append(record(name, found))
    return made


def test_ladders() -> None:
    leaks = leak_report(
        [PLAIN, *ladder(rising=(0.0, 0.5, 0.8), never=(0.1, 0.2, 0.4), single=(1.0,))], CLUSTERS, "control"
    )
    found = rows(leaks)
    assert [(step_.attack, step_.budget, step_.leak) for step_ in leaks.ladder_steps] == [
        ("rising", 1, 0.0), ("rising", 10, 0.5), ("rising", 100, pytest.approx(0.8)),
        ("never", 1, pytest.approx(0.1)), ("never", 10, pytest.approx(0.2)), ("never", 100, pytest.approx(0.4)),
    ]  # fmt: skip
    assert found["rising"].cost == 10
    assert found["never"].cost == math.inf
    assert math.isnan(found["single"].cost)
    # both steps are as wide on the log scale: (0 + 0.5) / 2 and (0.5 + 0.8) / 2, then their mean
    assert found["rising"].area == pytest.approx((0.25 + 0.65) / 2)


def test_the_cost_of_recovery_by_hand() -> None:
    def step_(budget: float, leak: float) -> LadderStep:
        return LadderStep("one", budget, 1.0, leak, 0.0, leak)

    assert recovery([step_(1, math.nan), step_(2, math.nan)]) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert recovery([step_(1, math.nan), step_(2, 0.7)]) == (2, 0.7)  # an uninformative rung is left out
    cost, area = recovery([step_(1, 0.6), step_(math.e, 0.2), step_(math.e**3, 0.4)])
    assert cost == 1
    assert area == pytest.approx((0.4 * 1 + 0.3 * 2) / 3)


def test_the_same_again() -> None:
    made = [PLAIN, *ladder(one=(0.2, 0.4))]
    first, second = (leak_report(made, CLUSTERS, "control", seed=5) for _ in range(2))
    assert repr(first) == repr(second)
    assert isinstance(first.overall, Worst)


def test_the_gain_is_over_the_items_that_could_be_asked() -> None:
    """Asked of the first two items alone: without an attack the models show 1, 0.5 and 0 of these."""
    nan = math.nan
    plain = attack(NONE, [1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0])
    one = attack("one", [1, 1, nan, nan], [1, 1, nan, nan], [0, 0, nan, 1])
    row = rows(leak_report([plain, one], CLUSTERS, "control"))["one"]
    assert row.before == 0.5
    assert row.gain == pytest.approx((1 - 0.5) / (1 - 0))


def test_the_gain_is_over_the_items_of_the_variants_chosen() -> None:
    """Two variants for two items each, of which the second is always the better."""
    nan = math.nan
    plain = attack(NONE, ALL, [1, 1, 0, 0], NOTHING)
    parts: Any = {
        "original": [[1, 1, nan, nan], [nan, nan, 1, 1]],
        "unlearned": [[0, 0, nan, nan], [nan, nan, 1, 1]],
        "control": [[0, 0, nan, nan], [nan, nan, 0, 0]],
    }
    both: Any = {p: [outcome(known, name) for known, name in zip(ks, "ab", strict=True)] for p, ks in parts.items()}
    row = rows(leak_report([plain, record("one", both)], CLUSTERS, "control"))["one"]
    assert row.variant == "b"
    assert (row.before, row.gain, row.leak) == (0.0, 1.0, 1.0)


def test_what_leaks_no_more_than_shuffled_answers_is_uninformative() -> None:
    both: Any = {
        part: [outcome(known), outcome(control, row="shuffled", counts=False)]
        for part, known, control in (
            ("original", ALL, ALL),
            ("unlearned", [1, 0, 0, 0], [1, 1, 0, 0]),
            ("control", NOTHING, NOTHING),
        )
    }
    leaks = leak_report([PLAIN, record("soft", both)], CLUSTERS, "control")
    assert rows(leaks)["soft"].status == "uninformative"
    assert "0.50 to 0.25" in rows(leaks)["soft"].reason
    assert math.isnan(leaks.overall.leak)
    assert rows(leaks)["soft_shuffled"].leak == 0.5
    open_book = attack(
        NONE, ALL, [1, 0, 0, 0], NOTHING
    )  # what plain questions show, too, is no work of the soft prompt
    assert rows(leak_report([open_book, record("soft", both)], CLUSTERS, "control"))["soft"].status == "ok"


def test_a_row_has_its_own_measure() -> None:
    found: Any = {
        part: [outcome(known, measure="mcq")]
        for part, known in (("original", ALL), ("unlearned", NOTHING), ("control", NOTHING))
    }
    row = rows(leak_report([PLAIN, record("choice", found)], CLUSTERS, "control"))["choice"]
    assert row.measure == "mcq"
    assert math.isnan(row.gain)
    assert math.isnan(row.before)


def test_a_broken_model_has_not_forgotten() -> None:
    kept = {"original": {"utility": 0.9}, "unlearned": {"utility": 0.05}, "control": {"utility": 0.9}}
    leaks = leak_report(
        [attack(NONE, ALL, NOTHING, NOTHING, **kept), attack("one", ALL, NOTHING, NOTHING)], CLUSTERS, "control"
    )
    row = rows(leaks)["one"]
    assert row.status == "uninformative"
    assert "it is broken" in row.reason
    assert leaks.overall.verdict == "inconclusive"
    assert math.isnan(leaks.overall.leak)
    caught = attack("one", ALL, [1, 1, 1, 0], NOTHING)
    found = leak_report([attack(NONE, ALL, NOTHING, NOTHING, **kept), caught], CLUSTERS, "control")
    assert rows(found)["one"].leak == 0.75
    assert found.overall.verdict == "leaks"  # it answers nothing, and still knows
    mended = attack("two", ALL, [1, 0, 0, 0], NOTHING, unlearned={"utility": 0.5}, original={"utility": 0.9})
    assert (
        rows(leak_report([attack(NONE, ALL, NOTHING, NOTHING, **kept), mended], CLUSTERS, "control"))["two"].leak
        == 0.25
    )


def test_variants_that_have_nothing_to_leak_are_no_candidates() -> None:
    """The excess of the first is larger by luck, but the original shows no more than the control there."""
    parts: dict[str, Any] = {
        "original": [[0, 0, 0, 0], ALL],
        "unlearned": [[0, 0, 1, 0], [0, 0.1, 0, 0]],
        "control": [[0, 0, 0, 0], NOTHING],
    }
    both: Any = {p: [outcome(known, name) for known, name in zip(ks, "ab", strict=True)] for p, ks in parts.items()}
    row = rows(leak_report([PLAIN, record("two", both)], CLUSTERS, "control"))["two"]
    assert row.variant == "b"
    assert row.leak == pytest.approx(0.025)


def test_who_guesses_has_the_measures_chance_level() -> None:
    known: Any = {"original": [outcome(ALL)], "unlearned": [outcome([1, 0.5, 0.5, 0.5])]}
    row = rows(leak_report([PLAIN, record("one", known, measure="AUC", chance=0.5)], CLUSTERS, "chance"))["one"]
    assert row.control == 0.5
    assert row.leak == pytest.approx(0.25)


def test_an_attack_says_how_well_it_must_work_on_the_original() -> None:
    weak = {"min_original": 0.3}
    few = attack("few", [1, 0, 0, 0], NOTHING, NOTHING, original=weak, unlearned=weak, control=weak)
    enough = attack("enough", [1, 1, 0, 0], NOTHING, NOTHING, original=weak, unlearned=weak, control=weak)
    found = rows(leak_report([PLAIN, few, enough], CLUSTERS, "control"))
    assert found["enough"].status == "ok"
    assert found["few"].status == "uninformative"
    assert found["few"].reason.startswith("the attacked original shows 0.25: below 0.3")


def test_an_original_that_guesses_has_nothing_to_leak() -> None:
    """Though the control guesses worse."""
    below = attack("below", [-0.2] * 4, [-0.2] * 4, [-0.6] * 4)
    row = rows(leak_report([PLAIN, below], CLUSTERS, "control"))["below"]
    assert row.status == "uninformative"
    assert "no more than guessing" in row.reason


def test_an_attacker_with_the_original_is_named() -> None:
    helped = attack("helped", ALL, NOTHING, NOTHING, unlearned={"with_original": True})
    found = rows(leak_report([PLAIN, helped], CLUSTERS, "control"))
    assert found["helped"].with_original
    assert not found[NONE].with_original
