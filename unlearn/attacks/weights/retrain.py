"""Retraining on some of the forgotten facts, judged by the others, in rotation (RTT)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.items import Item, Split
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.folds import split_folds
from unlearn.attacks.setting.self_estimate import TIE
from unlearn.attacks.setting.text import normalised
from unlearn.attacks.weights.training import ADAPTER_RATES, Adapters, Look, at_rate, by_size, teach
from unlearn.data.task import Example, Task
from unlearn.models.base import RunSetting
from unlearn.models.lora import Lora
from unlearn.models.subject import References, Subject
from unlearn.recipe import Recipe


@dataclass(frozen=True)
class Retrain:
    """Deeb and Roger 2024 (arXiv 2410.08827): fine-tune on all forget items but one fold, ask that fold, rotate.

    Facts that carry no information about each other cannot be learned from one another: what comes back was there.
    Every item is asked exactly once by a model that was not taught it, and once by a model that was ("taught"). Rows
    with the answer of an item in the fold are left out of its training.
    The paper trains and scores the letter of a multiple choice; here, where items need no options, the loss is that of
    the answer's tokens and an item counts by the report's knowledge.
    folds: into how many parts. split: whether a cluster is in one fold as a whole (with too few clusters, items are).
    rates: ladder, in multiples of recipe.lr; the attacker takes one by its own items. epochs, batch_size, warmup_steps:
    the paper's, in the place of the recipe's. lora: train adapters, None for all weights, "auto" by the model's size
    (see attacks/weights/training.py). adapter_rates: the ladder for adapters.
    Numbers: before, mean K of the scored items as they are; after, at the attacker's rate. Across models: recovery, the
    paper's: after of the unlearned model / before of the original.
    """

    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    recipe: Recipe
    folds: Annotated[int, Ge(2)] = 5
    split: Split = "across_cluster"
    epochs: Annotated[int, Gt(0)] = 6
    batch_size: Annotated[int, Gt(0)] = 4
    warmup_steps: Annotated[int, Ge(0)] = 24
    lora: Adapters = "auto"
    adapter_rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = ADAPTER_RATES

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "relearning"
    reference: ClassVar[str] = "arXiv 2410.08827"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Any task with two forget items will do."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """An outcome for each seed and rate."""
        lora = by_size(self.lora, subject.module)
        rates = self.adapter_rates if lora else self.rates
        before = mean(ask(subject, setting, setting.questions).known)
        outcomes: list[Outcome] = []
        after = []
        for seed in setting.seeds:
            folds = split_folds([*setting.attacker_items, *setting.held_out_items], self.folds, self.split, seed)
            found = [self._rotated(subject, setting, folds, rate, lora, seed) for rate in rates]
            after.append(mean(max(found, key=_choice).known))
            outcomes += found
        items = len(setting.attacker_items) + len(setting.held_out_items)
        return AttackResult(
            outcomes,
            f"{items} forget items, {items - round(items / len(folds))} at a time",
            f"{len(folds)} folds of {self.epochs} passes at {len(rates)} rate(s)",
            numbers={"before": before, "after": mean(after)},
        )

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """recovery; nan where the original knows nothing."""
        before, after = original.numbers["before"], unlearned.numbers["after"]
        return {"recovery": after / before if before else math.nan}

    def _rotated(
        self,
        subject: Subject,
        setting: AttackSetting,
        folds: Sequence[Sequence[Item]],
        rate: float,
        lora: Lora | None,
        seed: int,
    ) -> Outcome:
        """All folds at one rate. Where a training diverged its items count as unknown, and the rate is not taken."""
        found = _Found(setting)
        for i, fold in enumerate(folds):
            answers = {normalised(item.short_answer) for item in fold}
            rows = [item for other in folds if other is not fold for item in other]
            rows = [item for item in rows if normalised(item.short_answer) not in answers]
            if not rows:
                raise Inapplicable("all answers occur in more than one fold: nothing is left to train on")
            again = [item for item in folds[(i + 1) % len(folds)] if item in rows]

            def look(victim: Subject, _: int, fold: Sequence[Item] = fold, again: Sequence[Item] = again) -> None:
                found.ask(victim, fold, again)

            found.whole &= self._train(subject, rows, rate, lora, seed, look)
        return Outcome(
            f"rate x{rate:g}",
            np.array([found.known.get(item.index, 0.0) for item in setting.held_out_items]),
            tuple(found.texts.get(item.index, "") for item in setting.held_out_items),
            seed=seed,
            taught=_told(found.taught),
            choice=(mean([found.estimates[item.index] for item in setting.attacker_items]) if found.whole else np.nan),
            utility=_told(found.kept),
        )

    def _train(
        self, subject: Subject, items: Sequence[Item], rate: float, lora: Lora | None, seed: int, look: Look
    ) -> bool:
        steps = self.epochs * math.ceil(len(items) / self.batch_size)
        warmup = min(self.warmup_steps / steps, 0.5)
        recipe = at_rate(self.recipe, rate, steps=steps, epochs=None, batch_size=self.batch_size, warmup=warmup)
        rows = [Example((item.probe.question,), (item.probe.answer,)) for item in items]
        return teach(subject, rows, recipe, seed, look, lora=lora)


class _Found:
    """What was asked over the folds, by item."""

    def __init__(self, setting: AttackSetting) -> None:
        self.setting = setting
        self.known: dict[int, float] = {}
        self.texts: dict[int, str] = {}
        self.estimates: dict[int, float] = {}  # of the attacker's own items, when held out
        self.taught: list[float] = []
        self.kept: list[float] = []
        self.whole = True

    def ask(self, victim: Subject, fold: Sequence[Item], again: Sequence[Item]) -> None:
        """Ask a model that was not taught the fold, but was taught `again`: all at once, which saves passes."""
        n, m = len(fold), len(again)
        asked = ask(victim, self.setting, [*(item.probe for item in (*fold, *again)), *self.setting.retain])
        self.taught += asked.known[n : n + m].tolist()
        self.kept += asked.known[n + m :].tolist()
        for item, known, text in zip(fold, asked.known, asked.texts, strict=False):
            self.known[item.index], self.texts[item.index] = float(known), text
        own = [item for item in fold if item in self.setting.attacker_items]
        likely = ask(victim, self.setting, [item.probe for item in own], "prob").known
        for item, p in zip(own, likely, strict=True):
            self.estimates[item.index] = self.known[item.index] + TIE * float(p)


def _choice(outcome: Outcome) -> float:
    """A rate that destroyed the model comes last."""
    return -math.inf if outcome.choice is None or math.isnan(outcome.choice) else outcome.choice


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Of those that are not nan; nan without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _told(values: Sequence[float]) -> float | None:
    """The mean; None where nothing was asked."""
    return None if math.isnan(average := mean(values)) else average
