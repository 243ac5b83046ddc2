"""Relearning speed: steps counted by hand, and the savings they are made into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from beside import NO_REFERENCES
from birthdays import original, refusing, retain, setting, subject

from unlearn.attacks.base import AttackResult
from unlearn.attacks.weights.relearn_speed import RelearnSpeed, first
from unlearn.recipe import Recipe
from unlearn.runtime.explained import Explained

RECIPE = Recipe(lr=3e-3, batch_size=15, epochs=3.0, schedule="constant")


def test_the_first_step_at_which_it_is_there() -> None:
    there = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    assert first(there, np.array([0, 4, 9]), never=10).tolist() == [4, 0, 10]


def test_who_knows_is_spared_all_steps_and_who_never_knew_takes_some() -> None:
    attack = RelearnSpeed(RECIPE, steps=40, checkpoints=20, rate=1.0)
    o, r = (attack.attack(subject(m), setting((0, 1)), NO_REFERENCES) for m in (original(), retain()))
    assert [outcome.seed for outcome in o.outcomes] == [0, 1]
    assert all(outcome.known.tolist() == [1.0] * 15 for outcome in o.outcomes)
    assert o.numbers == {"steps": 0, "item_steps": 0}
    table = r.tables["speed"].frame
    assert table["step"].tolist() == list(range(0, 41, 2))
    assert table["nll"].iloc[0] > 2
    assert 0 < r.numbers["item_steps"] <= 40
    known = np.mean([outcome.known for outcome in r.outcomes])
    assert known == pytest.approx(1 - r.numbers["item_steps"] / 40)
    spent = (1 - np.stack([outcome.known for outcome in r.outcomes])) * 40
    reached = [np.mean([(row <= step) & (row < 40) for row in spent]) for step in table["step"][:-1]]
    assert table["reached"].iloc[:-1].tolist() == pytest.approx(reached, abs=0.1)  # some items are lost again
    assert not any(outcome.counts for outcome in (*o.outcomes, *r.outcomes))
    assert r.measure


@pytest.mark.parametrize(("nats", "k"), [(1e9, 1.0), (1e-9, 0.0)])
def test_thresholds_that_all_or_none_reach(nats: float, k: float) -> None:
    found = RelearnSpeed(RECIPE, steps=4, checkpoints=2, nats=nats).attack(subject(retain()), setting(), NO_REFERENCES)
    assert found.outcomes[0].known.tolist() == [k] * 15
    assert np.isnan(found.numbers["steps"]) == (k == 0)


def test_a_training_that_diverges_never_gets_there() -> None:
    attack = RelearnSpeed(Recipe(lr=1e30, batch_size=15, epochs=1.0, clip=None), steps=6, checkpoints=3, rate=1.0)
    found = attack.attack(subject(retain()), setting(), NO_REFERENCES)
    assert found.outcomes[0].known.tolist() == [0.0] * 15
    assert len(found.tables["speed"].frame) == 4


@pytest.mark.parametrize(
    ("unlearned", "retain_", "savings", "limit"),
    [
        ([2.0, 0.4, 0.3, 0.2], [4.0, 2.0, 1.0, 0.5], 1 - 10 / 30, 0.5),  # both come to nats
        ([2.0, 0.9, 0.6, 0.3], [4.0, 3.0, 2.0, 1.0], 1 - 10 / 30, 1.0),  # one does not: to what it comes to
        ([4.0, 3.0, 2.0, 1.5], [4.0, 2.0, 1.4, 1.2], 1 - 30 / 20, 1.5),  # slower than who never knew
        ([2.0, 0.4, 0.3, 0.2], [0.5, 0.4, 0.3, 0.2], np.nan, 0.5),  # who starts there can spare nothing
    ],
)
def test_savings_are_the_share_of_the_steps_that_is_spared(
    unlearned: list[float], retain_: list[float], savings: float, limit: float
) -> None:
    def curve(nll: list[float]) -> AttackResult:
        table = pd.DataFrame({"step": [0, 10, 20, 30], "nll": nll, "reached": 0.0})
        return AttackResult((), tables={"speed_attacker": Explained(table), "speed": Explained(table.assign(nll=0.0))})

    attack = RelearnSpeed(RECIPE, steps=30, nats=0.5)
    found = attack.across(curve([0.0] * 4), curve(unlearned), curve(retain_))
    assert found["savings"] == pytest.approx(savings, nan_ok=True)
    assert found["loss"] == limit
    assert attack.across(curve(unlearned), curve(unlearned), None) == {}


def test_the_attackers_items_have_a_training_of_their_own() -> None:
    """Who knows spares all steps, and the scored items are no part of it."""
    attack, what = RelearnSpeed(RECIPE, steps=20, checkpoints=10, nats=0.2, rate=1.0), setting()
    o, u, r = (attack.attack(subject(model), what, NO_REFERENCES) for model in (original(), refusing(), retain()))
    assert attack.across(o, o, r)["savings"] == 1
    assert 0.5 < attack.across(o, u, r)["savings"] < 1
    fewer = attack.attack(subject(retain()), replace(what, held_out_items=what.held_out_items[:2]), NO_REFERENCES)
    pd.testing.assert_frame_equal(fewer.tables["speed_attacker"].frame, r.tables["speed_attacker"].frame)
