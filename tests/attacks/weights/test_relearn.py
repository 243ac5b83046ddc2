"""Relearning: which rows, how long, at which rate, and that the attacker goes by its own items alone."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from beside import NO_REFERENCES
from birthdays import FORGET, RETAIN, original, refusing, retain, setting, subject
from helpers import RUN, retaining

import unlearn.attacks.weights.relearn as module
from unlearn.attacks.items import Item
from unlearn.attacks.weights.relearn import Relearn
from unlearn.attacks.weights.training import checkpoint_steps
from unlearn.data.task import Example
from unlearn.models import size
from unlearn.models.lora import Lora
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.base import AttackSetting, Outcome
    from unlearn.attacks.weights.changes import ChangedModel
    from unlearn.models.subject import Subject

RECIPE = Recipe(lr=1e-3, batch_size=4, epochs=3.0, schedule="constant")


def names(outcomes: Sequence[Outcome]) -> list[tuple[str, int, float | None]]:
    return [(o.variant, o.seed, o.budget) for o in outcomes]


def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Example | str], Recipe, int, int]]:
    """(rows, recipe, seed, checkpoints) of each training, none of which is made."""
    made = []

    def no_training(
        attacked: Subject, rows: list, recipe: Recipe, seed: int, on_checkpoint, checkpoints: int, lora: object
    ) -> bool:
        made.append((rows, recipe, seed, checkpoints))
        for step in checkpoint_steps(recipe.steps or 0, checkpoints):
            on_checkpoint(attacked, step)
        return True

    monkeypatch.setattr(module, "train", no_training)
    return made


def changes(attack: Relearn, what: AttackSetting, seed: int = 0) -> list[ChangedModel]:
    seen: list[ChangedModel] = []
    attack.change(subject(original()), what, seed, seen.append)
    return seen


def test_the_ladder_its_names_and_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings(monkeypatch)
    attack = Relearn("retain", (2, 1000, 9), (0.5, 1.0), RECIPE)
    outcomes = attack.attack(subject(retain()), setting((0, 3)), NO_REFERENCES).outcomes
    ladder_steps = [(2, (7, 14, 20)), (9, (7, 14, 20)), (40, (10, 20, 30))]  # 40 retain rows; 3 passes of ten steps
    wanted = [
        (f"{n} rows, rate x{rate:g}, {step} steps", seed, float(n))
        for seed in (0, 3)
        for n, steps in ladder_steps
        for rate in (0.5, 1.0)
        for step in steps
    ]
    assert names(outcomes) == wanted


def test_half_of_the_attackers_items_are_trained_on_and_the_other_half_validates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trainings(monkeypatch)
    what = setting()
    seen = changes(Relearn("forget", (2, 50), (1.0,), RECIPE), what)
    assert [len(rows) for rows, *_ in made] == [2, 3]
    assert made[0][0] == made[1][0][:2]
    answers = {row.answers[0] for row in made[1][0] if isinstance(row, Example)}
    validation_items = {item.probe.answer for item in seen[0].validation_items}
    assert answers | validation_items == {item.probe.answer for item in what.attacker_items}
    assert not answers & validation_items
    assert [len(change.trained_items) for change in seen] == [2, 2, 2, 3, 3, 3]
    assert {item.probe.answer for item in seen[-1].trained_items} == answers


def test_validation_items_are_about_other_subjects_where_the_scored_items_are(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings(monkeypatch)

    def by_cluster(taught: str, scored: str) -> AttackSetting:
        clusters = [*taught, *scored]
        items = [Item(i, replace(FORGET[i], cluster=c)) for i, c in enumerate(clusters)]
        return replace(
            setting(), attacker_items=tuple(items[: len(taught)]), held_out_items=tuple(items[len(taught) :])
        )

    for seed in range(4):
        across = changes(Relearn("forget", (9,), (1.0,), RECIPE), by_cluster("aaabbb", "cc"), seed)[0]
        assert {i.probe.cluster for i in across.validation_items} != {i.probe.cluster for i in across.trained_items}
        assert len({i.probe.cluster for i in across.validation_items}) == 1
    within = [changes(Relearn("forget", (9,), (1.0,), RECIPE), by_cluster("aaabbb", "ab"), s)[0] for s in range(8)]
    assert any(len({i.probe.cluster for i in one.validation_items}) == 2 for one in within)


def test_a_single_item_is_trained_on_and_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings(monkeypatch)
    what = setting()
    (first, *_) = changes(
        Relearn("forget", (9,), (1.0,), RECIPE), replace(what, attacker_items=what.attacker_items[:1])
    )
    assert list(first.validation_items) == list(first.trained_items) == list(what.attacker_items[:1])


def test_benign_rows_give_nothing_away_and_all_of_the_attackers_items_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainings(monkeypatch)
    what = setting()
    contaminated = Example(("who", "?"), (f"in {what.held_out_items[0].probe.answer}.",))
    what = replace(what, task=retaining(what.task, contaminated, *what.task.examples("retain")))
    seen = changes(Relearn("retain", (99,), (1.0,), RECIPE), what)
    assert len(made[0][0]) == len(RETAIN)
    assert contaminated not in made[0][0]
    assert seen[0].validation_items == what.attacker_items
    assert not seen[0].trained_items


def test_rows_beside_the_taught_ones_keep_the_model_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainings(monkeypatch)
    changes(Relearn("forget", (3,), (1.0,), RECIPE, maintain=4), setting())
    rows = [row.answers[0] for row in made[0][0] if isinstance(row, Example)]
    assert len(rows) == 3 + 12
    assert set(rows[3:]) <= {probe.answer for probe in RETAIN}
    with pytest.raises(ValueError, match="maintain=1 goes with source=forget"):
        Relearn("retain", (3,), (1.0,), RECIPE, maintain=1)


def test_length_rates_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 20 steps; three passes over 40 rows are 30; a length in steps is that, with three checkpoints."""
    made = trainings(monkeypatch)
    changes(Relearn("retain", (4, 40), (0.25, 2.0), RECIPE), setting(), seed=5)
    changes(Relearn("retain", (40,), (1.0,), replace(RECIPE, epochs=None, steps=12)), setting())
    assert [(recipe.steps, recipe.epochs, checkpoints) for _, recipe, _, checkpoints in made] == [
        *[(20, None, 3)] * 2,
        *[(30, None, 3)] * 2,
        (12, None, 3),
    ]
    assert [recipe.lr for _, recipe, *_ in made] == [0.00025, 0.002, 0.00025, 0.002, 0.001]
    assert [seed for _, _, seed, _ in made] == [5, 5, 5, 5, 0]


def test_all_models_are_given_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainings(monkeypatch)
    attack = Relearn("forget", (2,), (1.0,), RECIPE)
    for part in ("original", "unlearned", "control"):
        attack.change(subject(retain(), part), setting(), 1, lambda change: None)
    assert made[0] == made[1] == made[2]


def test_the_choice_does_not_look_at_the_scored_items() -> None:
    """Other answers to the scored items change their K, and nothing that the attacker goes by."""
    attack = Relearn("forget", (3,), (1.0,), RECIPE)
    what = setting()
    wrong = tuple(Item(item.index, replace(item.probe, answer="1", value="1")) for item in what.held_out_items)
    true, false = (
        attack.attack(subject(original()), w, NO_REFERENCES).outcomes
        for w in (what, replace(what, held_out_items=wrong))
    )
    assert [o.self_estimate for o in true] == [o.self_estimate for o in false]
    assert names(true) == names(false)
    assert np.nanmax([o.known for o in true]) == 1
    assert np.nanmax([o.known for o in false]) == 0


def test_a_rate_that_destroys_the_model_is_a_variant_like_the_others() -> None:
    attack = Relearn("forget", (3,), (1.0, 1e30), replace(RECIPE, clip=None))
    outcomes: Sequence[Any] = attack.attack(subject(original()), setting(), NO_REFERENCES).outcomes
    assert [o.variant for o in outcomes] == [
        f"3 rows, rate x{rate}, {s} steps" for rate in ("1", "1e+30") for s in (7, 14, 20)
    ]
    assert np.isnan(outcomes[-1].self_estimate)
    assert outcomes[-1].known.tolist() == [0.0] * 15


def test_what_is_taught_is_known_afterwards_and_what_was_never_known_is_not() -> None:
    """The control model learns its rows, and nothing else from them; suppressed knowledge comes back."""
    attack = Relearn("forget", (3,), (3.0,), replace(RECIPE, epochs=1.0))  # a single look, at the end
    (found,) = attack.attack(subject(retain()), setting(), NO_REFERENCES).outcomes
    assert found.known.mean() == 0
    assert found.on_attacker_items == 1
    benign = Relearn("retain", (40,), (1.0,), RECIPE).attack(subject(refusing()), setting(), NO_REFERENCES)
    best = max(benign.outcomes, key=lambda o: o.self_estimate or 0)
    assert best.known.mean() > 0.5
    assert best.utility == 1


def test_adapters_train_in_its_place_and_leave_the_subject_as_it_was() -> None:
    model = copy.deepcopy(retain())
    before = copy.deepcopy(model.state_dict())
    attack = Relearn("forget", (3,), (0.1,), replace(RECIPE, epochs=1.0), least_steps=80, lora=Lora(rank=8))
    attack = replace(attack, adapter_rates=(10.0,))
    (found,) = attack.attack(subject(model), setting(), NO_REFERENCES).outcomes
    assert (found.on_attacker_items or 0) > 0.5
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(hasattr(m, "lora_A") for m in model.modules())


def test_plain_text_can_be_learned_from(tmp_path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(" ".join(random.Random(i).choices(["born", "n30", "n31"], k=40)) for i in range(4)))
    attack = Relearn("unrelated", (4,), (1.0,), RECIPE, text=str(file))
    attack.check(setting().task, RUN)
    assert len(attack.attack(subject(original()), setting(), NO_REFERENCES).outcomes) == 3


def test_adapters_have_a_ladder_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model counts as large from 100 weights on: "auto" gives it adapters, and these the rates of adapters."""
    made = trainings(monkeypatch)
    attack = Relearn("retain", (2,), (0.25, 1.0), RECIPE, adapter_rates=(2.0, 4.0, 8.0))
    for limit in (10**9, 100):
        monkeypatch.setattr(size, "LARGE", limit)
        found = attack.attack(subject(retain()), setting(), NO_REFERENCES)
        assert found.budget.endswith(f"{2 if limit > 100 else 3} rate(s)")
    assert [recipe.lr for _, recipe, *_ in made] == pytest.approx([0.00025, 0.001, 0.002, 0.004, 0.008])
