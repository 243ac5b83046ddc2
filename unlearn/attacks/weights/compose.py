"""Composition: one attack changes the weights, another is made on the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.attacks.base import Attack, AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.weights.changes import ChangedModel, WeightAttack, seeds
from unlearn.models.lora import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

_THREATS: Mapping[Threat, int] = {"black": 0, "grey": 1, "white": 2}


@dataclass(frozen=True)
class Compose:
    """Make `second` on every variant of the model that `first` gives: relearn, then quantise; quantise, then sample.

    What users do to a released model undoes unlearning that holds against each step alone (arXiv 2501.04952, 2.6).
    Every variant of the one is tried with every variant of the other. Where the first attack's attacker has items to
    tell how well it did, the whole composition is evaluated by them. Adapters that it trained are merged (into a copy)
    before the second attack, as they are before a model is compressed.
    The threat is the stronger of the two.
    """

    first: WeightAttack
    """An attack that changes weights, best with one variant. These are quantize, prune, prune_magnitude, detach and
    relearn_*."""
    second: Attack
    """The attack on the changed model."""

    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1

    @property
    def threat(self) -> Threat:
        """Return the stronger of the two."""
        return max(self.first.threat, self.second.threat, key=_THREATS.__getitem__)

    @property
    def family(self) -> str:
        """Return what kind of attack it is."""
        return "composition"

    @property
    def reference(self) -> str:
        """Return the papers of both, each once."""
        papers = f"{self.first.reference}, {self.second.reference}".split(", ")
        return ", ".join(dict.fromkeys(paper for paper in papers if paper))

    @property
    def reads(self) -> frozenset[str]:
        """Return what both read."""
        return self.first.reads | self.second.reads

    def check(self, task: Task, setting: RunSetting) -> None:
        """Check what both check."""
        for part in (self.first, self.second):
            part.check(task.only(part.reads), setting)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each pair of variants; data and budget are the second attack's."""
        attempts: list[AttackResult] = []
        outcomes: list[Outcome] = []
        lost: list[tuple[ChangedModel, int | None]] = []
        for seed in seeds(self.first, setting):

            def visit(change: ChangedModel, seed: int | None = seed if self.first.randomised else None) -> None:
                if change.subject is None:
                    lost.append((change, seed))
                    return
                its_setting = replace(
                    setting,
                    task=setting.task.only(self.second.reads),
                    held_out_items=(*setting.held_out_items, *change.validation_items),
                    seeds=setting.seeds if seed is None else (seed,),
                )
                changed = replace(change.subject, module=merged(change.subject.module))
                attempts.append(self.second.attack(changed, its_setting, references.only(self.second.reads)))
                outcomes.extend(
                    _joined(change, one, len(setting.held_out_items), seed) for one in attempts[-1].outcomes
                )

            self.first.change(subject, replace(setting, task=setting.task.only(self.first.reads)), seed, visit)
        if not attempts:
            raise Inapplicable("the first attack left no working model")
        last = attempts[-1]
        for change, own_seed in lost:
            outcomes += [_joined(change, _nothing(one), len(setting.held_out_items), own_seed) for one in last.outcomes]
        return AttackResult(outcomes, last.data, last.budget, last.measure, chance=last.chance)


def _nothing(outcome: Outcome) -> Outcome:
    """Return the outcome of a destroyed model, in the place of that of a working one."""
    return replace(
        outcome,
        known=np.zeros(len(outcome.known)),
        texts=(),
        self_estimate=np.nan,
        on_attacker_items=None,
        utility=None,
    )


def _joined(change: ChangedModel, outcome: Outcome, scored: int, seed: int | None) -> Outcome:
    """Return the second attack's outcome on a variant of the first; its K of the validation items is the estimate."""
    own = outcome.known[scored:]
    return replace(
        outcome,
        variant=f"{change.variant}, then {outcome.variant}",
        known=outcome.known[:scored],
        texts=outcome.texts[:scored],
        seed=outcome.seed if seed is None else seed,
        self_estimate=outcome.self_estimate
        if outcome.self_estimate is not None or not len(own)
        else float(np.nanmean(own)),
    )
