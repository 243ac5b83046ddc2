"""Compositions: the second attack meets exactly the model that the first one made."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from birthdays import original, retain, setting, subject
from helpers import RUN

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable
from unlearn.attacks.setting.no_attack import NoAttack
from unlearn.attacks.weights.compose import Compose
from unlearn.attacks.weights.prune import PruneMagnitude
from unlearn.attacks.weights.quantize import Quantize
from unlearn.attacks.weights.relearn import Relearn
from unlearn.models.lora import Lora
from unlearn.models.subject import References, Subject
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.weights.changes import ChangedModel

RECIPE = Recipe(lr=1e-3, batch_size=4, epochs=2.0, schedule="constant")
LIKELY = replace(setting(), answer_metric="prob")
REFERENCES = References(lambda: subject(original(), "original"), lambda: None)


def test_every_variant_meets_every_variant() -> None:
    first, second = PruneMagnitude((0.5, 0.9)), Quantize(("int8", "int4"))
    found = Compose(first, second).attack(subject(original()), LIKELY, REFERENCES)
    assert [o.variant for o in found.outcomes] == [
        f"{share} smallest, then {form}" for share in ("50%", "90%") for form in ("int8", "int4")
    ]
    by_hand: list[np.ndarray] = []

    def visit(changed: ChangedModel) -> None:
        assert changed.subject
        by_hand.extend(o.known for o in second.attack(changed.subject, LIKELY, REFERENCES).outcomes)

    first.change(subject(original()), LIKELY, 0, visit)
    np.testing.assert_array_equal([o.known for o in found.outcomes], by_hand)
    assert all(o.self_estimate is None for o in found.outcomes)
    assert found.budget == "2 formats"


def test_the_whole_composition_is_evaluated_by_the_first_attackers_items() -> None:
    first = Relearn("retain", (10,), (1.0,), RECIPE)
    found = Compose(first, NoAttack()).attack(subject(original()), replace(LIKELY, seeds=(0, 4)), REFERENCES)
    alone = first.attack(subject(original()), replace(LIKELY, seeds=(0, 4)), REFERENCES).outcomes
    assert [o.seed for o in found.outcomes] == [0, 0, 4, 4]
    assert [o.variant for o in found.outcomes] == [f"{o.variant}, then none" for o in alone]
    assert all(len(o.known) == len(setting().held_out_items) for o in found.outcomes)
    for both, one in zip(found.outcomes, alone, strict=True):
        if not np.isnan(one.known).any():  # the relearner asks only what it would take
            np.testing.assert_allclose(both.known, one.known, rtol=1e-5)
        assert both.self_estimate == pytest.approx(one.self_estimate, rel=2e-3)  # there a tie has its own weight
    assert max(o.self_estimate or 0 for o in found.outcomes) > 0.5


def test_a_deterministic_first_attack_leaves_the_seeds_to_the_second() -> None:
    compose = Compose(Quantize(("int8",)), Relearn("retain", (10,), (1.0,), RECIPE))
    found = compose.attack(subject(retain()), replace(setting(), seeds=(1, 2)), REFERENCES)
    assert [o.seed for o in found.outcomes] == [1, 1, 2, 2]
    assert all(o.self_estimate is not None and o.budget == 10 for o in found.outcomes)


def test_a_destroyed_model_knows_nothing() -> None:
    first = Relearn("retain", (10,), (1.0, 1e30), replace(RECIPE, clip=None))
    attack = Compose(first, Quantize(("int8", "int4")))
    outcomes: Sequence[Any] = attack.attack(subject(original()), setting(), REFERENCES).outcomes
    assert len({o.variant for o in outcomes}) == len(outcomes) == 2 * 2 * 2
    broken = [o for o in outcomes if "x1e+30" in o.variant]
    assert all(o.known.sum() == 0 and o.utility is None for o in broken if np.isnan(o.self_estimate))
    assert any(np.isnan(o.self_estimate) for o in broken)
    with pytest.raises(Inapplicable, match="no working model"):
        Compose(replace(first, rates=(1e30,), least_steps=2), NoAttack()).attack(
            subject(original()), setting(), REFERENCES
        )


def test_it_is_as_strong_as_the_stronger_part_and_cites_both() -> None:
    relearn: Any = Relearn("retain", (10,), (1.0,), RECIPE)
    compose = Compose(relearn, Quantize())
    assert (compose.threat, compose.family) == ("white", "composition")
    assert compose.reference == "arXiv 2402.16835, 2406.13356, arXiv 2410.16454"
    assert Compose(Quantize(), NoAttack()).threat == "grey"
    compose.check(setting().task, RUN)


def test_adapters_are_merged_before_the_model_is_compressed() -> None:
    """As by hand: the weights that peft merges, quantised; and the subject has its own again."""
    recipe, model = replace(RECIPE, epochs=1.0), copy.deepcopy(original())
    before = copy.deepcopy(model.state_dict())
    first = Relearn("retain", (10,), (1.0,), recipe, lora=Lora(rank=4), adapter_rates=(10.0,))
    found = Compose(first, Quantize(("int4",))).attack(subject(model), LIKELY, REFERENCES)
    by_hand: list[np.ndarray] = []

    def visit(change: ChangedModel) -> None:
        assert change.subject
        plain = copy.deepcopy(original())
        with torch.no_grad():
            for name, module in change.subject.module.named_modules():
                if hasattr(module, "lora_A"):
                    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
                    plain.get_submodule(name).weight += module.scaling["default"] * b @ a
        by_hand.extend(o.known for o in Quantize(("int4",)).attack(subject(plain), LIKELY, REFERENCES).outcomes)

    first.change(subject(model), LIKELY, 0, visit)
    np.testing.assert_allclose([o.known for o in found.outcomes], by_hand, rtol=1e-4)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_a_guesser_knows_is_the_second_attacks() -> None:
    @dataclass(frozen=True)
    class Guessing(NoAttack):
        def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
            return replace(super().attack(subject, setting, references), chance=0.3)

    assert Compose(Quantize(("int8",)), Guessing()).attack(subject(original()), LIKELY, REFERENCES).chance == 0.3
