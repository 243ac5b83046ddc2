"""Relearning speed: what left a trace is learned again sooner than what was never known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.setting.putting import encode_answers
from unlearn.attacks.weights.training import (
    ADAPTER_RATES,
    Adapters,
    at_rate,
    by_size,
    checkpoint_steps,
    train,
)
from unlearn.data.task import Example, Question, Task
from unlearn.recipe import Recipe
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from unlearn.data.prompt import Encoded
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class RelearnSpeed:
    """Train a model on the held-out items themselves and count the steps until it has each (Ebbinghaus's savings).

    K of an item = 1 - s / steps, with s the first checkpoint at which the mean nll of its answer's tokens is at most
    `nats` (s = 0: from the start; K = 0: never). With A_o = 1, which knows all from the start, the leak
    (A_u - A_r) / (A_o - A_r) is 1 - s_u / s_r: the share of the steps that the unlearned model is spared. A diagnostic:
    its attacker holds the answers already, so it is no part of the worst case.
    In a training of its own it does the same with the attacker's items alone. Across models: savings = 1 - t_u / t_r,
    with t the first checkpoint at which the loss (mean nll over these items) is at most a limit: `nats`, or the lowest
    loss that both models come to, where one does not come to `nats`. Positive: a trace is left. loss: that limit.
    Numbers: steps, to a loss of `nats` on the attacker's items (nan: not within them); item_steps, mean over held-out
    items of s (`steps` where never). Tables: `speed`, of the held-out items: step, nll (mean over them), reached (share
    of them); `speed_attacker`, the same of the attacker's.
    """

    recipe: Recipe
    """How it trains, but for its length."""
    steps: Annotated[int, Gt(0)] = 60
    """Length of each training."""
    checkpoints: Annotated[int, Ge(2)] = 30
    """How often the items are scored on the way, evenly spaced."""
    nats: Annotated[float, Gt(0)] = 0.5
    """An item is there when its answer's mean token nll is at most this."""
    rate: Annotated[float, Gt(0)] = 0.25
    """Learning rate, in multiples of relearn.lr."""
    lora: Adapters = "auto"
    """Adapters to train; auto: above 2e9 weights; null: never. See attacks/weights/training.py."""
    adapter_rate: Annotated[float, Gt(0)] = ADAPTER_RATES[0]
    """The same for adapters."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "relearning"
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed; numbers and the tables are means over them."""
        at = np.array([0, *checkpoint_steps(self.steps, self.checkpoints)])
        own = [item.probe for item in setting.attacker_items]
        curves = [self._curve(subject, setting.questions, len(at), seed) for seed in setting.seeds]
        own_curves = [self._curve(subject, own, len(at), seed) for seed in setting.seeds]
        spent = [first(curve <= self.nats, at, never=self.steps) for curve in curves]
        outcomes = [
            Outcome("savings", 1 - s / self.steps, seed=seed, counts=False)
            for s, seed in zip(spent, setting.seeds, strict=True)
        ]
        together = [first(curve.mean(axis=1) <= self.nats, at, never=np.nan) for curve in own_curves]
        return AttackResult(
            outcomes,
            f"the {len(setting.held_out_items)} held-out items",
            f"{self.steps} steps",
            "steps spared",
            {"steps": float(np.mean(together)), "item_steps": float(np.mean(spent))},
            {"speed": _explained(self._table(curves, at)), "speed_attacker": Explained(self._table(own_curves, at))},
        )

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Return savings and loss; nothing without a control model, nan where that starts at the limit."""
        if control is None:
            return {}
        curves = [one.tables["speed_attacker"].frame for one in (unlearned, control)]
        limit = max(self.nats, *(curve["nll"].min() for curve in curves))
        u, r = (float(first(np.array(curve["nll"] <= limit), np.array(curve["step"]), np.nan)) for curve in curves)
        return {"savings": 1 - u / r if r else math.nan, "loss": float(limit)}

    def _table(self, curves: Sequence[np.ndarray], at: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        reached = np.mean([(curve <= self.nats).mean(axis=1) for curve in curves], axis=0)
        return pd.DataFrame({"step": at, "nll": np.mean(curves, axis=0).mean(axis=1), "reached": reached})

    def _curve(self, subject: Subject, probes: Sequence[Question], points: int, seed: int) -> np.ndarray:
        """Return the nll of each item before the training on them and at each checkpoint: [points, items].

        It is infinite once the training has diverged.
        """
        rows = [Example((probe.question,), (probe.answer,)) for probe in probes]
        encoded = encode_answers(subject, [(probe, probe.answer) for probe in probes])
        lora = by_size(self.lora, subject.module)
        rate = self.adapter_rate if lora else self.rate
        recipe = at_rate(self.recipe, rate, steps=self.steps, epochs=None)
        curve = [_nll(subject, encoded)]

        def on_checkpoint(changed: Subject, step: int) -> None:
            curve.append(_nll(changed, encoded))

        train(subject, rows, recipe, seed, on_checkpoint, points - 1, lora)
        return np.stack([*curve, *[np.full(len(rows), np.inf)] * (points - len(curve))])


def first(there: np.ndarray, at: np.ndarray, never: float) -> np.ndarray:
    """Return the first of the steps `at` [S] at which a column of `there` [S, ...] holds; `never` where none."""
    return np.where(there.any(axis=0), at[there.argmax(axis=0)], never)


def _nll(subject: Subject, encoded: list[Encoded]) -> np.ndarray:
    """Return the mean answer-token nll (nats) of each row."""
    from unlearn.score.generate import pad_id
    from unlearn.score.likelihood import likelihoods

    scored = likelihoods(subject.module, [[row] for row in encoded], pad_id(subject.processor), subject.token_budget)
    return np.array([-row.logp.mean() for (row,) in scored])


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "Loss of the forgotten answers while the model is trained on them, and the share of them below the attack's "
        "threshold (`nats`). Where the unlearned model is faster than the one that never knew them, a trace is left."
    )
    called = {"nll": "loss, nats per token", "reached": "share of the items learned"}
    chart = Chart("line", "step", ("nll", "reached"), log=("nll",), words=called)
    return Explained(table, "Relearning curve", words, chart)
