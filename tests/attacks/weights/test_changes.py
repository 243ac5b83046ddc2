"""From changed models to outcomes: who is asked, and what the attacker goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from bigram import bigram, setting, subject

from unlearn.attacks.base import AttackResult, AttackSetting, Threat
from unlearn.attacks.setting.self_estimate import TIE, self_estimate
from unlearn.attacks.weights.changes import ChangedModel, Visit, evaluate_variants
from unlearn.data.task import Question

if TYPE_CHECKING:
    from unlearn.models.subject import References, Subject

SCORED = [Question("a", "b"), Question("c", "d")]
TAUGHT = [Question("e", "f"), Question("g", "h")]


@dataclass(frozen=True)
class Table:
    """Models that answer T and V with the given probabilities; None: destroyed."""

    models: Sequence[tuple[float, float, float | None] | None]
    validation_items: bool = True
    randomised: ClassVar[bool] = True
    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = ""
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: object, setting: object) -> None: ...

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        return AttackResult(evaluate_variants(self, subject, setting))

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        own = setting.attacker_items if self.validation_items else ()
        for i, each in enumerate(self.models):
            if each is None:
                visit(ChangedModel(f"m{i}", None, own))
                continue
            t, v, budget = each
            model = bigram({"e": {"f": t}, "g": {"h": t}, "a": {"b": v}, "c": {"d": v}})
            visit(ChangedModel(f"m{i}", replace(subject, module=model), own, budget=budget))


def known(attack: Table, seeds: tuple[int, ...] = (0,)) -> list[tuple[str, int, list[float]]]:
    found = evaluate_variants(attack, subject(bigram({})), replace(setting(SCORED, TAUGHT), seeds=seeds))
    return [(o.variant, o.seed, o.known.tolist()) for o in found]


def test_only_the_best_so_far_is_asked_the_scored_items() -> None:
    """By T: 0.5, 0.4, 0.6, 0.6 again, and destroyed."""
    found = known(Table(((0.5, 0.1, None), (0.4, 0.9, None), (0.6, 0.2, None), (0.6, 0.8, None), None)))
    assert [name for name, *_ in found] == ["m0", "m1", "m2", "m3", "m4"]
    values = np.array([v for *_, v in found])
    np.testing.assert_allclose(values[[0, 2, 4]], [[0.1, 0.1], [0.2, 0.2], [0.0, 0.0]], atol=1e-5)
    assert np.isnan(values[[1, 3]]).all()


def test_the_choice_is_the_attackers_own_and_knows_nothing_of_v() -> None:
    low = evaluate_variants(Table(((0.5, 0.1, None), (0.7, 0.1, None))), subject(bigram({})), setting(SCORED, TAUGHT))
    high = evaluate_variants(Table(((0.5, 0.9, None), (0.7, 0.3, None))), subject(bigram({})), setting(SCORED, TAUGHT))
    assert [o.self_estimate for o in low] == [o.self_estimate for o in high]
    assert [o.self_estimate for o in low] == pytest.approx([0.5 * (1 + TIE), 0.7 * (1 + TIE)], rel=1e-4)


def test_every_budget_and_seed_has_a_best_of_its_own() -> None:
    found = known(Table(((0.6, 0.1, 1.0), (0.5, 0.2, 1.0), (0.5, 0.3, 2.0))), seeds=(3, 4))
    assert [(name, seed) for name, seed, _ in found] == [(f"m{i}", seed) for seed in (3, 4) for i in range(3)]
    assert [np.isnan(v).any() for *_, v in found] == [False, True, False] * 2


def test_without_items_of_its_own_the_attacker_asks_all_and_chooses_nothing() -> None:
    found = evaluate_variants(
        Table(((0.5, 0.1, None), (0.4, 0.9, None)), validation_items=False),
        subject(bigram({})),
        setting(SCORED, TAUGHT),
    )
    assert [o.self_estimate for o in found] == [None, None]
    np.testing.assert_allclose([o.known for o in found], [[0.1, 0.1], [0.9, 0.9]], atol=1e-5)


def test_equal_answers_are_told_apart_by_their_likelihood() -> None:
    """Greedy answers are wrong either way, but the right one is likelier in the second model."""
    what = replace(setting(SCORED, TAUGHT), answer_metric="match")
    far, near = (subject(bigram({"e": {"q": 0.5, "f": p}, "g": {"q": 0.5, "h": p}})) for p in (0.1, 0.3))
    assert self_estimate(far, what, what.attacker_items) == pytest.approx(0.1 * TIE, rel=1e-4)
    assert self_estimate(near, what, what.attacker_items) == pytest.approx(0.3 * TIE, rel=1e-4)
