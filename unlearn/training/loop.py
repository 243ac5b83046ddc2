"""The training loop: original and control models, unlearning and relearning all run through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unlearn.models.mask import Mask
from unlearn.recipe import Recipe
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.training import checkpoint
from unlearn.training.adamw import AdamW
from unlearn.training.checkpoint import Checkpoint, Log
from unlearn.training.gradients import StepGradients
from unlearn.training.update import Running, Update
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from unlearn.training.objective import Objective

FEW = 0.1  # share of weights in half precision: where fewer moved, that is told
Evaluate = Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Setup:
    """How a model is trained."""

    recipe: Recipe
    """Its numbers."""
    seed: int
    """What dropout, where there is any, is drawn from."""
    update: Update = field(default_factory=AdamW)
    """How gradients change weights."""
    mask: Mask | None = None
    """Which weights may change (see Weights); None: all that are trainable."""


@dataclass(frozen=True)
class Watch:
    """Who is told how a training goes."""

    evaluate: Evaluate | None = None
    """Gives the points of the trade-off curve, from the steps done; the model is in eval mode then."""
    advance: Callable[..., None] = lambda *args, **losses: None
    """A progress bar's: steps done since, and the loss."""
    record: Callable[[str, dict[str, Any]], None] = lambda kind, row: None
    """Gets each new row of the log ("train") and of the curve ("curve") as it comes."""
    notify: Callable[[str], None] = lambda line: None
    """Gets what a person should know."""
    enough: Callable[[int], bool] = lambda step: False
    """Says after so many steps, alike on all ranks, whether the model has learned enough: the training ends then."""


def train(policy: nn.Module, objective: Objective, setup: Setup, folder: Path, watch: Watch | None = None) -> Log:
    """Train `policy.model` in place, and return the log: losses as sums over the step.

    The state is saved in `folder` now and then and found there again: a killed training ends with the same weights, bit
    for bit on one machine's CPU with the same number of threads. Several processes give the same weights to rounding.
    Raises UserError where the gradient is no longer finite or is 0 from the start, or nothing is trainable.
    """
    return _Training(policy, objective, setup, folder, watch or Watch()).run()


class _Training:
    def __init__(self, policy: nn.Module, objective: Objective, setup: Setup, folder: Path, watch: Watch) -> None:
        self.objective, self.setup, self.folder, self.watch = objective, setup, folder, watch
        self.model: Any = policy.get_submodule("model")
        self.weights = Weights(self.model, setup.mask)
        if not self.weights.trainable:
            raise UserError("nothing to train: no weight is trainable (what does localize= select?)")
        self.before = self.weights.held()
        self.gradients = StepGradients(policy, objective, self.weights, setup.recipe, setup.seed)
        self.running: Running = setup.update.start(self.weights, setup.recipe)

    def run(self) -> Log:
        recipe, steps, model = self.setup.recipe, self.objective.steps, self.model
        if recipe.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        step, log = self._resume(steps)
        due = recipe.evaluation_steps(steps) if self.watch.evaluate else frozenset()
        saved = time.monotonic()
        model.train()
        while step < steps:
            losses = self.running.step(self.gradients.of(step), recipe.lr_factor(step, steps))
            numbers = self.objective.numbers()
            self.objective.after_step(losses)
            if not math.isfinite(losses["grad_norm"]):
                raise UserError(
                    f"the gradient is no longer finite at step {step + 1} of {steps}: lower train.lr or set train.clip"
                )
            if step == 0 and losses["grad_norm"] == 0:
                raise UserError("the gradient of all trainable weights is 0 at step 1: nothing would be learned")
            step += 1
            log.history.append({"step": step, **losses, **numbers})
            self.watch.record("train", log.history[-1])
            self.watch.advance(1, loss=losses["loss"])
            if step in due:
                self._evaluate(step, log)
            if self.watch.enough(step):
                break
            late = time.monotonic() - saved > recipe.checkpoint_seconds
            if distributed.is_main() and late and self.objective.may_save(step):
                self._save(step, log)
                saved = time.monotonic()
        self.running.finish()
        self._say_what_moved()
        model.eval()
        if recipe.gradient_checkpointing:
            model.activation_checkpointing_disable()
        return log

    def _say_what_moved(self) -> None:
        """Tell where hardly any weight in half precision took a step that was not rounded away."""
        moved, total = self.weights.moved(self.before)
        if moved < FEW * total:
            self.watch.notify(
                f"only {100 * moved / total:.2g} % of {total:,} weights moved at all: in bfloat16 small steps are lost "
                "(weights=float32 keeps them, a higher lr makes them larger)"
            )

    def _evaluate(self, step: int, log: Log) -> None:
        """Add a point to the trade-off curve."""
        self.model.eval()
        evaluate = self.watch.evaluate
        point = distributed.from_main(evaluate(step) if distributed.is_main() and evaluate else None)
        log.curve.append({"step": step, **point})
        self.watch.record("curve", log.curve[-1])
        self.model.train()

    def _save(self, step: int, log: Log) -> None:
        state = self.objective.state or {}
        Checkpoint(step, log, self.weights.trainable, self.running.state(), state, self.weights.digest).save(
            self.folder
        )

    def _resume(self, steps: int) -> tuple[int, Log]:
        """Put a checkpoint back, where there is a whole one; the steps done and their log."""
        found = checkpoint.load(self.folder, self.weights.digest)
        if found is not None and set(found.model) != set(self.weights.trainable):
            found = None
        if found is None and (self.folder / checkpoint.FILE).exists():
            self.watch.notify(f"the checkpoint in {self.folder} is damaged: starting this stage again")
        step = found.step if found else 0
        if distributed.from_main(step) != step:
            raise UserError(
                f"rank {distributed.rank()} found another checkpoint than rank 0: all machines must share one disk"
            )
        if found is None:
            return 0, Log()
        for name, value in found.model.items():
            self.weights.trainable[name].data.copy_(value)
        self.running.load(found.update)
        self.objective.state = dict(found.objective)
        self.watch.notify(f"going on from step {step} of {steps}")
        self.watch.advance(step)
        return step, found.log
