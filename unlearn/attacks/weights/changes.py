"""Attacks that change the weights: each makes variants of the model, which are then asked as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from unlearn.attacks.base import Attacked, Brief, Outcome, Suspect, Threat
from unlearn.attacks.items import Item
from unlearn.attacks.setting.knowledge import judge
from unlearn.attacks.setting.self_estimate import success
from unlearn.data.task import Task


@dataclass(frozen=True)
class Change:
    """A variant of a changed model, as it is while it is looked at.

    variant: its name. victim: the changed model; None where the change destroyed it (weights no longer finite).
    judges: the items by which the attacker can tell how well it did; none where it holds nothing. taught: the items
    whose answers were given away. budget: what the variant cost, in the attack's natural unit.
    """

    variant: str
    victim: Suspect | None
    judges: Sequence[Item] = ()
    taught: Sequence[Item] = ()
    budget: float | None = None


Visit = Callable[[Change], object]


class Changer(Protocol):
    """An attack that changes the weights. randomised: whether a seed makes a difference."""

    threat: ClassVar[Threat]
    family: ClassVar[str]
    reference: ClassVar[str]
    randomised: ClassVar[bool]

    def check(self, task: Task) -> None:
        """See Attack."""
        ...

    def attack(self, suspect: Suspect, brief: Brief) -> Attacked:
        """See Attack."""
        ...

    def change(self, suspect: Suspect, brief: Brief, seed: int, visit: Visit) -> None:
        """Make each variant in turn and call `visit` with it, which may not keep the model. The suspect stays as it
        was. Raises Inapplicable where that cannot be done."""
        ...


def seeds(attack: Changer, brief: Brief) -> tuple[int, ...]:
    """The seeds with which the attack differs."""
    return brief.seeds if attack.randomised else (0,)


def judged(attack: Changer, suspect: Suspect, brief: Brief) -> list[Outcome]:
    """An outcome for each variant of each seed.

    Where the attacker has judges, only a variant that does better by them than those before it (of this seed and
    budget) is asked the scored items: no other will ever be taken, and its K is nan.
    """
    outcomes: list[Outcome] = []
    for seed in seeds(attack, brief):
        attack.change(suspect, brief, seed, _Judge(brief, seed, outcomes))
    return outcomes


class _Judge:
    """Turns each change into an outcome."""

    def __init__(self, brief: Brief, seed: int, outcomes: list[Outcome]) -> None:
        self.brief, self.seed, self.outcomes = brief, seed, outcomes
        self.best: dict[float | None, float] = {}

    def __call__(self, change: Change) -> None:
        n, seed, budget = len(self.brief.scored), self.seed, change.budget
        if change.victim is None:
            self.outcomes.append(Outcome(change.variant, np.zeros(n), seed=seed, choice=np.nan, budget=budget))
            return
        choice = success(change.victim, self.brief, change.judges) if change.judges else None
        if choice is not None and choice <= self.best.get(budget, -np.inf):
            unasked = np.full(n, np.nan)
            self.outcomes.append(Outcome(change.variant, unasked, seed=seed, choice=choice, budget=budget))
            return
        if choice is not None and np.isfinite(choice):
            self.best[budget] = choice
        brief = replace(self.brief, taught=tuple(change.taught))
        taught = bool(change.taught)
        found = judge(change.victim, brief, change.variant, taught, seed=seed, choice=choice, budget=budget)
        self.outcomes.append(found)
