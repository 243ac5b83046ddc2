"""Retraining on some of the forgotten facts, evaluated on the others, in rotation (RTT)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.items import Item, Split
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.folds import split_folds
from unlearn.attacks.setting.self_estimate import TIE
from unlearn.attacks.setting.text import normalised
from unlearn.attacks.weights.training import ADAPTER_RATES, Adapters, OnCheckpoint, at_rate, by_size, train
from unlearn.data.task import Example, Task
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.models.base import RunSetting
    from unlearn.models.lora import Lora
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Retrain:
    """Deeb and Roger 2024 (arXiv 2410.08827): fine-tune on all forget items but one fold, ask that fold, rotate.

    Facts that carry no information about each other cannot be learned from one another: what comes back was there.
    Every item is asked exactly once by a model that was not trained on it, and once by one that was. Rows with the
    answer of an item in the fold are left out of its training.
    The paper trains and scores the letter of a multiple choice; here, where items need no options, the loss is that of
    the answer's tokens and an item counts by the report's answer metric.
    Numbers: before, mean K of the held-out items as they are; after, at the attacker's rate. Across models: recovery,
    the paper's: after of the unlearned model / before of the original.
    """

    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    """Ladder of learning rates, in multiples of relearn.lr. The attacker takes one by its own items; the paper's: 1e-7
    to 5e-6 in factors of 2."""
    recipe: Recipe
    """The other settings of the training."""
    folds: Annotated[int, Ge(2)] = 5
    """Into how many parts the forget items are put."""
    split: Split = "across_cluster"
    """across_cluster: whole clusters in one fold; within_cluster: items. With too few clusters, items are."""
    epochs: Annotated[int, Gt(0)] = 6
    """Passes over the rows, in the place of the recipe's."""
    batch_size: Annotated[int, Gt(0)] = 4
    """Rows of a step, in the place of the recipe's."""
    warmup_steps: Annotated[int, Ge(0)] = 24
    """Steps of warmup, at most half of all."""
    lora: Adapters = "auto"
    """Adapters to train; auto: above 2e9 weights; null: never. See attacks/weights/training.py."""
    adapter_rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = ADAPTER_RATES
    """The same ladder for adapters."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "relearning"
    reference: ClassVar[str] = "arXiv 2410.08827"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; it needs two forget items."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed and rate."""
        lora = by_size(self.lora, subject.module)
        rates = self.adapter_rates if lora else self.rates
        before = mean(ask(subject, setting, setting.questions).known)
        outcomes: list[Outcome] = []
        after = []
        for seed in setting.seeds:
            folds = split_folds([*setting.attacker_items, *setting.held_out_items], self.folds, self.split, seed)
            found = [self._rotated(subject, setting, folds, rate, lora, seed) for rate in rates]
            after.append(mean(max(found, key=_estimate).known))
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
        """Return recovery; nan where the original knows nothing."""
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
        """Return the outcome of all folds at one rate.

        Where a training diverged its items count as unknown, and the rate is not taken.
        """
        found = _Answers(setting)
        for i, fold in enumerate(folds):
            answers = {normalised(item.short_answer) for item in fold}
            rows = [item for other in folds if other is not fold for item in other]
            rows = [item for item in rows if normalised(item.short_answer) not in answers]
            if not rows:
                raise Inapplicable("all answers occur in more than one fold: nothing is left to train on")
            again = [item for item in folds[(i + 1) % len(folds)] if item in rows]

            def on_checkpoint(
                changed: Subject, _: int, fold: Sequence[Item] = fold, again: Sequence[Item] = again
            ) -> None:
                found.ask(changed, fold, again)

            found.whole &= self._train(subject, rows, rate, lora, seed, on_checkpoint)
        return Outcome(
            f"rate x{rate:g}",
            np.array([found.known.get(item.index, 0.0) for item in setting.held_out_items]),
            tuple(found.texts.get(item.index, "") for item in setting.held_out_items),
            seed=seed,
            on_attacker_items=_mean_or_none(found.on_trained),
            self_estimate=(
                mean([found.estimates[item.index] for item in setting.attacker_items]) if found.whole else np.nan
            ),
            utility=_mean_or_none(found.kept),
        )

    def _train(
        self,
        subject: Subject,
        items: Sequence[Item],
        rate: float,
        lora: Lora | None,
        seed: int,
        on_checkpoint: OnCheckpoint,
    ) -> bool:
        steps = self.epochs * math.ceil(len(items) / self.batch_size)
        warmup = min(self.warmup_steps / steps, 0.5)
        recipe = at_rate(self.recipe, rate, steps=steps, epochs=None, batch_size=self.batch_size, warmup=warmup)
        rows = [Example((item.probe.question,), (item.probe.answer,)) for item in items]
        return train(subject, rows, recipe, seed, on_checkpoint, lora=lora)


class _Answers:
    """What was asked over the folds, by item."""

    def __init__(self, setting: AttackSetting) -> None:
        self.setting = setting
        self.known: dict[int, float] = {}
        self.texts: dict[int, str] = {}
        self.estimates: dict[int, float] = {}  # of the attacker's own items, when held out
        self.on_trained: list[float] = []
        self.kept: list[float] = []
        self.whole = True

    def ask(self, changed: Subject, fold: Sequence[Item], again: Sequence[Item]) -> None:
        """Ask a model that was trained on `again` but not on the fold: all at once, which saves passes."""
        n, m = len(fold), len(again)
        asked = ask(changed, self.setting, [*(item.probe for item in (*fold, *again)), *self.setting.retain])
        self.on_trained += asked.known[n : n + m].tolist()
        self.kept += asked.known[n + m :].tolist()
        for item, known, text in zip(fold, asked.known, asked.texts, strict=False):
            self.known[item.index], self.texts[item.index] = float(known), text
        own = [item for item in fold if item in self.setting.attacker_items]
        likely = ask(changed, self.setting, [item.probe for item in own], "prob").known
        for item, p in zip(own, likely, strict=True):
            self.estimates[item.index] = self.known[item.index] + TIE * float(p)


def _estimate(outcome: Outcome) -> float:
    """Return the attacker's own estimate; a rate that destroyed the model comes last."""
    return -math.inf if outcome.self_estimate is None or math.isnan(outcome.self_estimate) else outcome.self_estimate


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Return the mean of those that are not nan; nan without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _mean_or_none(values: Sequence[float]) -> float | None:
    """Return the mean; None where nothing was asked."""
    return None if math.isnan(average := mean(values)) else average
