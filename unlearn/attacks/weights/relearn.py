"""Relearning: a few steps of training, on forget items or on text that holds none of them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Threat
from unlearn.attacks.setting.folds import split_folds
from unlearn.attacks.weights.benign_rows import benign_rows
from unlearn.attacks.weights.changes import ChangedModel, Visit, evaluate_variants
from unlearn.attacks.weights.training import (
    ADAPTER_RATES,
    Adapters,
    at_rate,
    by_size,
    checkpoint_steps,
    train,
)
from unlearn.data.task import Example, Task
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.items import Item
    from unlearn.models.base import RunSetting
    from unlearn.models.lora import Lora
    from unlearn.models.subject import References, Subject

CHECKPOINTS = 3  # where the recipe's length is in steps: with passes there is one after each


@dataclass(frozen=True)
class Relearn:
    """Train the model again, then ask the held-out items.

    The attacker takes the rate and the time to stop by its own items, for each model anew. The same rows, seeds and
    rates go to the original and to the control model, which tells what was recovered from what was learned.
    """

    files: ClassVar[tuple[str, ...]] = ("text",)

    source: Literal["forget", "retain", "unrelated", "related"]
    """Rows to train on: forget items, or retain, unrelated or related rows without the answers. With forget it takes
    half of the attacker's items, while the other half, about other subjects if the held-out items are, tells it how
    well it did (Lynch et al. 2024, arXiv 2402.16835). The others: see `benign_rows` (arXiv 2406.13356, 2505.22310)."""
    samples: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)]
    """Ladder of the number of rows. Half of what the attacker holds at most, where it trains on forget items."""
    rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    """Ladder of learning rates, in multiples of relearn.lr. One alone gives a false sense of robustness."""
    recipe: Recipe
    """How it trains: in passes over the rows, of at least `least_steps` steps, or in steps."""
    least_steps: Annotated[int, Gt(0)] = 20
    """Fewest steps, where the recipe's length is in passes."""
    maintain: Annotated[int, Ge(0)] = 0
    """Retain rows beside each forget row, which keep the model whole."""
    text: str | None = None
    """With source=unrelated: a text file or a dataset; null: the package's own passages."""
    lora: Adapters = "auto"
    """Adapters to train; auto: above 2e9 weights; null: never. See attacks/weights/training.py."""
    adapter_rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = ADAPTER_RATES
    """The same ladder for adapters."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "relearning"
    reference: ClassVar[str] = "arXiv 2402.16835, 2406.13356"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "retain"})
    randomised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.maintain and self.source != "forget":
            raise ValueError(f"maintain={self.maintain} goes with source=forget, not with source={self.source}")

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where rows that are wanted are missing. Where all mention an answer, the attack is skipped."""
        from unlearn.data.fluency import check_fluency

        check_fluency(self.text, "text")
        if self.source == "retain" or self.maintain:
            task.require_examples("retain")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed, number of rows, rate and checkpoint."""
        outcomes = evaluate_variants(self, subject, setting)
        most = max(outcome.budget or 0 for outcome in outcomes)
        steps = self._steps(int(most) * (1 + self.maintain))
        rates = len(self._rates(by_size(self.lora, subject.module)))
        return AttackResult(outcomes, f"up to {most:.0f} {self.source} rows", f"{steps} steps at {rates} rate(s)")

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Visit a variant for each number of rows, rate and checkpoint."""
        rows, own, validation_items = self._rows(setting, seed)
        lora = by_size(self.lora, subject.module)
        for n in sorted({min(n, len(rows)) for n in self.samples}):
            beside = benign_rows(setting, "retain", seed)[: n * self.maintain] if self.maintain else []
            for rate in self._rates(lora):
                change = ChangedModel("", None, validation_items, own[:n], float(n))
                self._train(subject, [*rows[:n], *beside], rate, lora, seed, change, visit)

    def _rows(self, setting: AttackSetting, seed: int) -> tuple[list[Example | str], Sequence[Item], Sequence[Item]]:
        """Return what is trained on, in random order, the items that it gives away, and the validation items."""
        if self.source != "forget":
            return benign_rows(setting, self.source, seed, self.text), (), setting.attacker_items
        clusters = {item.probe.cluster for item in setting.attacker_items}
        within = any(item.probe.cluster in clusters for item in setting.held_out_items)
        own, *validation_items = split_folds(
            setting.attacker_items, 2, "within_cluster" if within else "across_cluster", seed
        )
        random.Random(f"relearn-{seed}").shuffle(own)
        rows: list[Example | str] = [Example((item.probe.question,), (item.probe.answer,)) for item in own]
        return rows, own, validation_items[0] if validation_items else own

    def _steps(self, rows: int) -> int:
        if self.recipe.epochs is None:
            return self.recipe.steps or self.least_steps
        return max(self.least_steps, round(self.recipe.epochs * math.ceil(rows / self.recipe.batch_size)))

    def _rates(self, lora: Lora | None) -> tuple[float, ...]:
        return self.adapter_rates if lora else self.rates

    def _train(
        self,
        subject: Subject,
        rows: list[Example | str],
        rate: float,
        lora: Lora | None,
        seed: int,
        change: ChangedModel,
        visit: Visit,
    ) -> None:
        """Visit the model in training, as `change` at each checkpoint."""
        steps = self._steps(len(rows))
        recipe = at_rate(self.recipe, rate, steps=steps, epochs=None)
        checkpoints = checkpoint_steps(steps, math.ceil(self.recipe.epochs or CHECKPOINTS))

        def on_checkpoint(changed: Subject | None, step: int) -> None:
            variant = f"{change.budget:g} rows, rate x{rate:g}, {step} steps"
            visit(replace(change, variant=variant, subject=changed))
            checkpoints.remove(step)

        train(subject, rows, recipe, seed, on_checkpoint, len(checkpoints), lora)
        for step in tuple(checkpoints):  # what was left when the training diverged
            on_checkpoint(None, step)
