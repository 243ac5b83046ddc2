"""Attacks that change the weights: each makes variants of the model, which are then asked as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.items import Item
from unlearn.attacks.setting.answer_metric import evaluate_attacked
from unlearn.attacks.setting.self_estimate import self_estimate
from unlearn.models.subject import References, Subject

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting


@dataclass(frozen=True)
class ChangedModel:
    """A variant of a changed model, as it is while it is visited."""

    variant: str
    """Its name."""
    subject: Subject | None
    """The changed model; None where the change destroyed it (weights no longer finite)."""
    validation_items: Sequence[Item] = ()
    """The items by which the attacker can tell how well it did; none where it holds nothing."""
    trained_items: Sequence[Item] = ()
    """The items whose answers were trained on."""
    budget: float | None = None
    """What the variant cost, in the attack's natural unit."""


Visit = Callable[[ChangedModel], object]


class WeightAttack(Protocol):
    """An attack that changes the weights."""

    threat: ClassVar[Threat]
    family: ClassVar[str]
    reference: ClassVar[str]
    modality: ClassVar[str]
    version: ClassVar[int]
    randomised: ClassVar[bool]
    """Whether a seed makes a difference."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed; see Attack."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """See Attack."""
        ...

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """See Attack."""
        ...

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Make each variant in turn and call `visit` with it, which may not keep the model.

        The subject stays as it was. Inapplicable where that cannot be done.
        """
        ...


def seeds(attack: WeightAttack, setting: AttackSetting) -> tuple[int, ...]:
    """Return the seeds with which the attack differs."""
    return setting.seeds if attack.randomised else (0,)


def evaluate_variants(attack: WeightAttack, subject: Subject, setting: AttackSetting) -> list[Outcome]:
    """Return an outcome for each variant of each seed.

    Where the attacker has validation items, only a variant that does better by them than those before it (of this seed
    and budget) is asked the held-out items: no other will ever be taken, and its K is nan.
    """
    outcomes: list[Outcome] = []
    for seed in seeds(attack, setting):
        attack.change(subject, setting, seed, _Evaluation(setting, seed, outcomes))
    return outcomes


class _Evaluation:
    """Turns each variant into an outcome."""

    def __init__(self, setting: AttackSetting, seed: int, outcomes: list[Outcome]) -> None:
        self.setting, self.seed, self.outcomes = setting, seed, outcomes
        self.best: dict[float | None, float] = {}

    def __call__(self, change: ChangedModel) -> None:
        n, seed, budget = len(self.setting.held_out_items), self.seed, change.budget
        if change.subject is None:
            self.outcomes.append(Outcome(change.variant, np.zeros(n), seed=seed, self_estimate=np.nan, budget=budget))
            return
        validation = change.validation_items
        estimate = self_estimate(change.subject, self.setting, validation) if validation else None
        if estimate is not None and estimate <= self.best.get(budget, -np.inf):
            unasked = np.full(n, np.nan)
            self.outcomes.append(Outcome(change.variant, unasked, seed=seed, self_estimate=estimate, budget=budget))
            return
        if estimate is not None and np.isfinite(estimate):
            self.best[budget] = estimate
        setting = replace(self.setting, attacker_items=tuple(change.trained_items))
        with_own = bool(change.trained_items)
        found = evaluate_attacked(
            change.subject, setting, change.variant, with_own, seed=seed, self_estimate=estimate, budget=budget
        )
        self.outcomes.append(found)
