"""Training inside an attack, by the project's own loop: of a copy of the model, or of adapters on it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearn.models.lora import Lora, remove_adapters
from unlearn.models.size import is_large
from unlearn.models.subject import Subject
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn.data.task import Example
    from unlearn.recipe import Recipe
    from unlearn.training.plan import Plan

OnCheckpoint = Callable[[Subject, int], object]
Adapters = Literal["auto"] | Lora | None
"""What an attack trains: these adapters; None: all weights; "auto": what fits the model's size, see `by_size`."""

ADAPTERS = Lora(rank=16, alpha=32)
ADAPTER_RATES = (0.5, 2.5, 10.0)
"""Ladder in multiples of a recipe for all weights: from conf/train/llm_relearn.yaml it makes 1e-5, 5e-5 and 2e-4."""


def by_size(adapters: Adapters, model: PreTrainedModel) -> Lora | None:
    """Return the adapters to train, None for all weights.

    "auto" trains all weights of models of up to about 1.5 billion, and adapters of rank 16 on every linear layer of
    larger ones: of these all weights, a copy, their gradients and AdamW's moments do not fit beside each other on one
    GPU.
    """
    if adapters != "auto":
        return adapters
    return ADAPTERS if is_large(model) else None


def train(
    subject: Subject,
    rows: Sequence[Example | str],
    recipe: Recipe,
    seed: int,
    on_checkpoint: OnCheckpoint,
    checkpoints: int = 1,
    lora: Lora | None = None,
) -> bool:
    """Train on the rows (answers are labelled; of a bare text, all tokens); return whether it came to its end.

    on_checkpoint: called with the model, in eval mode, and the steps done, at `checkpoint_steps(steps, checkpoints)`.
    The subject stays as it was: a copy is trained or, with `lora`, adapters on it that are taken off at the end, so
    that a large model need not be in memory twice. Where a step does not fit into memory the training starts again with
    smaller micro-batches, which give the same gradient; checkpoints that were visited are not visited again.
    False where the gradient was no longer finite (the rate was too high): there are no more checkpoints then.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    from unlearn.training.supervised import plan_answers

    plan = plan_answers(rows, subject.processor, subject.prompt, recipe, seed)
    steps, seen = len(plan.steps), 0
    due = checkpoint_steps(steps, checkpoints)
    recipe = replace(
        recipe, evaluate_at=tuple(s / steps for s in due), evaluate_every=None, checkpoint_seconds=math.inf
    )

    def once(changed: Subject, step: int) -> None:
        nonlocal seen
        if step > seen:
            on_checkpoint(changed, step)
            seen = step

    while True:
        try:
            return _train(subject, plan, recipe, seed, once, lora)
        except RuntimeError as error:
            longest = max(len(row.ids) for row in plan.rows)
            if recipe.micro_tokens <= longest or not should_reduce_batch_size(error):
                raise
        _free_memory()  # by now the traceback no longer holds the failed attempt
        recipe = replace(recipe, micro_tokens=recipe.micro_tokens // 2)


def checkpoint_steps(steps: int, checkpoints: int) -> list[int]:
    """Return after which of `steps` steps a checkpoint is: `checkpoints` of them evenly spaced, the last at the end."""
    return sorted({math.ceil(i * steps / checkpoints) for i in range(1, checkpoints + 1)})


def at_rate(recipe: Recipe, rate: float, **changes: Any) -> Recipe:
    """Return the recipe with `rate` times its learning rate, and other changes."""
    return replace(recipe, lr=rate * recipe.lr, **changes)


def _train(
    subject: Subject, plan: Plan, recipe: Recipe, seed: int, on_checkpoint: OnCheckpoint, lora: Lora | None
) -> bool:
    from unlearn.training.loop import Setup, Watch
    from unlearn.training.supervised import train_answers

    def evaluate(step: int) -> dict[str, float]:
        on_checkpoint(changed, step)
        return {}

    with _trainable(subject, lora, seed) as changed, tempfile.TemporaryDirectory() as folder:
        try:
            train_answers(changed.module, plan, Setup(recipe, seed), Path(folder), Watch(evaluate))
        except UserError:  # of those that training raises, only the gradient's can come up here
            return False
        on_checkpoint(changed, len(plan.steps))
    return True


@contextmanager
def _trainable(subject: Subject, lora: Lora | None, seed: int) -> Iterator[Subject]:
    """While active, what is trained: a copy, or the model itself with adapters, which come off at the end."""
    if lora is None:
        changed = subject.copied()
        changed.module.float().requires_grad_(True)  # small updates would be lost in bfloat16 weights
        yield changed
        changed.module.zero_grad(set_to_none=True)
        return
    import torch

    required = {parameter: parameter.requires_grad for parameter in subject.module.parameters()}
    torch.manual_seed(seed)  # of the adapters' random halves
    try:
        lora.attach(subject.module)
        yield subject  # whose linear layers now have them
    finally:
        remove_adapters(subject.module)
        for parameter, flag in required.items():
            parameter.requires_grad_(flag)
        subject.module.eval()


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
