"""Training inside an attack, by the project's own loop: a copy of the model or adapters on it, and looks on the way."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlearn.data.task import Example
from unlearn.models.lora import Lora, remove_adapters
from unlearn.models.size import is_large
from unlearn.models.subject import Subject
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn.training.plan import Plan

Look = Callable[[Subject, int], object]
Adapters = Literal["auto"] | Lora | None
"""What an attack trains: these adapters; None: all weights; "auto": what fits the model's size, see `by_size`."""

ADAPTERS = Lora(rank=16, alpha=32)
ADAPTER_RATES = (0.5, 2.5, 10.0)
"""Ladder in multiples of a recipe for all weights: from conf/train/llm_relearn.yaml it makes 1e-5, 5e-5 and 2e-4."""


def by_size(adapters: Adapters, model: PreTrainedModel) -> Lora | None:
    """The adapters to train, None for all weights. "auto" trains all weights of models of up to about 1.5 billion,
    and adapters of rank 16 on every linear layer of larger ones: of these all weights, a copy, their gradients and
    AdamW's moments do not fit beside each other on one GPU."""
    if adapters != "auto":
        return adapters
    return ADAPTERS if is_large(model) else None


def teach(
    subject: Subject,
    rows: Sequence[Example | str],
    recipe: Recipe,
    seed: int,
    look: Look,
    looks: int = 1,
    lora: Lora | None = None,
) -> bool:
    """Train on the rows (answers are labelled; of a bare text, all tokens) and look at the model on the way.

    look: called with the model, in eval mode, and the steps done, at `look_steps(steps, looks)`. The suspect stays as
    it was: a copy is trained or, with `lora`, adapters on it that are taken off at the end, so that a large model need
    not be in memory twice. Where a step does not fit into memory the training starts again with smaller micro-batches,
    which give the same gradient; what was looked at is not looked at again.
    Gives False where the gradient was no longer finite (the rate was too high): there are no more looks then.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    from unlearn.training.supervised import plan_answers

    plan = plan_answers(rows, subject.processor, subject.prompt, recipe, seed)
    steps, seen = len(plan.steps), 0
    due = look_steps(steps, looks)
    recipe = replace(
        recipe, evaluate_at=tuple(s / steps for s in due), evaluate_every=None, checkpoint_seconds=math.inf
    )

    def once(victim: Subject, step: int) -> None:
        nonlocal seen
        if step > seen:
            look(victim, step)
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


def look_steps(steps: int, looks: int) -> list[int]:
    """After which of `steps` steps to look: `looks` of them evenly spaced, the last at the end."""
    return sorted({math.ceil(i * steps / looks) for i in range(1, looks + 1)})


def at_rate(recipe: Recipe, rate: float, **changes: Any) -> Recipe:
    """The recipe with `rate` times its learning rate, and other changes."""
    return replace(recipe, lr=rate * recipe.lr, **changes)


def _train(subject: Subject, plan: Plan, recipe: Recipe, seed: int, look: Look, lora: Lora | None) -> bool:
    from unlearn.training.loop import Setup, Watch
    from unlearn.training.supervised import train_answers

    def evaluate(step: int) -> dict[str, float]:
        look(victim, step)
        return {}

    with _pupil(subject, lora, seed) as victim, tempfile.TemporaryDirectory() as folder:
        try:
            train_answers(victim.module, plan, Setup(recipe, seed), Path(folder), Watch(evaluate))
        except UserError:  # of those that training raises, only the gradient's can come up here
            return False
        look(victim, len(plan.steps))
    return True


@contextmanager
def _pupil(subject: Subject, lora: Lora | None, seed: int) -> Iterator[Subject]:
    """What is trained: a copy, or the model itself with adapters, which come off at the end."""
    if lora is None:
        victim = subject.copied()
        victim.module.float().requires_grad_(True)  # small updates would be lost in bfloat16 weights
        yield victim
        victim.module.zero_grad(set_to_none=True)
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
