"""Retraining on four fifths: every item is held out once, and what comes back was there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from beside import NO_REFERENCES
from birthdays import FORGET, RETAIN, original, refusing, retain, setting, subject, taught

import unlearn.attacks.weights.retrain as module
from unlearn.attacks.base import Inapplicable, Outcome
from unlearn.attacks.items import Item
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.weights.retrain import Retrain
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from unlearn.data.task import Example
    from unlearn.models.subject import Subject

RECIPE = Recipe(lr=3e-3, epochs=3.0, schedule="constant")
ATTACK = Retrain((1.0,), RECIPE, epochs=7, warmup_steps=2)


def test_permuted_answers_are_taught_and_never_leak() -> None:
    """U := r retrained on the forget names with each other's years; L = (A_u - A_r) / (A_o - A_r) = 0."""
    years = [probe.answer for probe in FORGET]
    swapped = [replace(p, answer=y, value=y) for p, y in zip(FORGET, years[1:] + years[:1], strict=True)]
    unlearned = taught(retain(), [*swapped, *RETAIN], 80)
    (o,), (u,), (r,) = (
        ATTACK.attack(subject(m), setting(), NO_REFERENCES).outcomes for m in (original(), unlearned, retain())
    )
    assert (o.known.mean(), u.known.mean(), r.known.mean()) == (1, 0, 0)
    assert u.on_attacker_items is not None
    assert u.on_attacker_items > 0.9
    assert o.utility == 1


def test_suppressed_knowledge_comes_back() -> None:
    (found,) = ATTACK.attack(subject(refusing()), setting(), NO_REFERENCES).outcomes
    assert found.known.mean() > 0.7
    assert found.self_estimate is not None
    assert found.self_estimate > 0.5


def recorded(monkeypatch: pytest.MonkeyPatch, whole: bool = True) -> list[tuple[set[str], Recipe, int, list[str]]]:
    """Of each training: the answers taught, the recipe, the seed, and what was asked. None is made."""
    made: list[tuple[set[str], Recipe, int, list[str]]] = []
    really = ask

    def asking(attacked: Subject, what: Any, probes: list, *kind: Any) -> object:
        if not kind and made:  # before the first training the model is asked as it is
            made[-1][-1].extend(probe.answer for probe in probes)
        return really(attacked, what, probes, *kind)

    def no_training(
        attacked: Subject, rows: list[Example], recipe: Recipe, seed: int, on_checkpoint, lora: object
    ) -> bool:
        made.append(({row.answers[0] for row in rows}, recipe, seed, []))
        if whole:
            on_checkpoint(attacked, 1)
        return whole

    monkeypatch.setattr(module, "ask", asking)
    monkeypatch.setattr(module, "train", no_training)
    return made


def test_every_item_is_asked_once_untaught_and_once_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorded(monkeypatch)
    Retrain((1.0, 0.5), RECIPE).attack(subject(original()), setting((0, 7)), NO_REFERENCES)
    assert len(made) == 2 * 2 * 5
    everything = {probe.answer for probe in FORGET}
    for start in range(0, len(made), 5):
        held, again = Counter[str](), Counter[str]()
        for rows, _, _, asked in made[start : start + 5]:
            assert len(rows) == 16
            held.update(answer for answer in asked if answer in everything - rows)
            again.update(answer for answer in asked if answer in rows)
        assert held == again == dict.fromkeys(everything, 1)
    assert [seed for _, _, seed, _ in made] == [0] * 10 + [7] * 10
    recipe = made[0][1]
    assert (recipe.steps, recipe.batch_size, recipe.warmup) == (6 * 4, 4, 0.5)  # 24 warm-up steps would be all
    assert [one[1].lr for one in made[::5]] == [3e-3, 1.5e-3] * 2


def test_rows_with_an_answer_of_the_fold_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people born in one year are never on both sides."""
    made = recorded(monkeypatch)
    what = setting()
    twins = tuple(
        Item(item.index, replace(item.probe, answer="1950", value="1950")) for item in what.held_out_items[:2]
    )
    Retrain((1.0,), RECIPE).attack(
        subject(original()), replace(what, held_out_items=(*twins, *what.held_out_items[2:])), NO_REFERENCES
    )
    for rows, _, _, asked in made:
        held = [answer for answer in asked if answer in {p.answer for p in FORGET} | {"1950"} and answer not in rows]
        assert not set(held) & rows
    same = tuple(Item(item.index, replace(item.probe, answer="1950", value="1950")) for item in what.held_out_items)
    with pytest.raises(Inapplicable, match="nothing is left to train on"):
        Retrain((1.0,), RECIPE).attack(
            subject(original()), replace(what, held_out_items=same, attacker_items=same[:1]), NO_REFERENCES
        )


def test_a_rate_that_diverges_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, whole=False)
    found: Any
    (found,) = Retrain((1.0,), RECIPE).attack(subject(original()), setting(), NO_REFERENCES).outcomes
    assert found.known.tolist() == [0.0] * 15
    assert np.isnan(found.self_estimate)
    assert found.on_attacker_items is None
    assert found.utility is None


def test_the_choice_is_from_the_attackers_items_alone() -> None:
    what = setting()
    wrong = tuple(Item(item.index, replace(item.probe, value=f"{item.index}")) for item in what.held_out_items)
    (a,), (b,) = (
        ATTACK.attack(subject(original()), w, NO_REFERENCES).outcomes
        for w in (what, replace(what, held_out_items=wrong))
    )
    assert a.self_estimate == b.self_estimate
    assert (a.known.mean(), b.known.mean()) == (1, 0)


def test_recovery_is_what_comes_back_of_what_the_original_knew() -> None:
    """K of what the original knows is 1: what the others knew before does not matter."""
    o, u, r = (ATTACK.attack(subject(m), setting(), NO_REFERENCES) for m in (original(), refusing(), retain()))
    assert (o.numbers["before"], r.numbers["before"]) == (1, 0)
    assert u.numbers["after"] == pytest.approx(u.outcomes[0].known.mean())
    assert ATTACK.across(o, u, r)["recovery"] == pytest.approx(u.outcomes[0].known.mean())
    half = replace(o, numbers={"before": 0.5, "after": 0.9})
    assert ATTACK.across(half, half, None)["recovery"] == pytest.approx(1.8)
    assert np.isnan(ATTACK.across(r, u, None)["recovery"])


def test_what_comes_back_is_at_the_attackers_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rate does best by T; a rate that destroyed the model does not count, and seeds are averaged."""
    known = {(0, 1.0): (0.2, 0.9), (0, 2.0): (0.5, 0.4), (0, 3.0): (np.nan, 0.0)}
    known |= {(1, rate): (choice, k + 0.1) for (_, rate), (choice, k) in known.items()}

    def rotated(self: Retrain, *args: object) -> Outcome:
        rate, seed = args[3], args[5]
        choice, k = known[seed, rate]  # type: ignore[index]
        return Outcome(f"rate x{rate}", np.full(15, k), seed=seed, self_estimate=choice)  # type: ignore[arg-type]

    monkeypatch.setattr(Retrain, "_rotated", rotated)
    found = Retrain((1.0, 2.0, 3.0), RECIPE).attack(subject(retain()), setting((0, 1)), NO_REFERENCES)
    assert found.numbers["after"] == pytest.approx((0.4 + 0.5) / 2)
