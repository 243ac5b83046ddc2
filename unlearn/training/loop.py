"""The training loop: original and control models, unlearning and relearning all run through it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from unlearn.methods.base import Method
from unlearn.models.batches import Batch, micro_batches
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy
from unlearn.recipe import Recipe
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.training import checkpoint
from unlearn.training.checkpoint import Log
from unlearn.training.masking import Masking
from unlearn.training.plan import Plan
from unlearn.training.update import make_optimizers, set_lr

Evaluate = Callable[[int], dict[str, float]]


def train(
    model: nn.Module,
    plan: Plan,
    method: Method,
    recipe: Recipe,
    folder: Path,
    seed: int,
    reference: Policy | None = None,
    reference_nll: Mapping[int, float] | None = None,
    mask: Mask | None = None,
    evaluate: Evaluate | None = None,
    advance: Callable[..., None] = lambda *args, **parts: None,
    record: Callable[[str, dict[str, Any]], None] = lambda kind, row: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Log:
    """Train `model` in place along `plan`, and return the log.

    The state is saved in `folder` now and then and found there again: a killed training ends with the same weights, bit
    for bit on one machine's CPU with the same number of threads. Under a `mask` only the selected weights change (see
    Masking). `evaluate(step)` gives the points of the trade-off curve; the model is in eval mode then.
    `record(kind, row)` gets each new row of the log ("train") and of the curve ("curve") as it comes. Losses are logged
    as sums over the step. Raises UserError where the loss is no longer finite.
    """
    cpu = next(model.parameters()).device.type == "cpu"
    bf16 = recipe.for_device("cpu" if cpu else "cuda").precision == "bf16"
    accelerator = Accelerator(mixed_precision="no", cpu=cpu)  # see _gradients
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    masking = Masking(model, mask)
    optimizers = make_optimizers(model, recipe, masking)
    if not optimizers:
        raise UserError("nothing to train: no weight is trainable (what does localize= select?)")
    steps = len(plan.steps)
    resumed = checkpoint.load(folder, model, optimizers, masking.digest)
    if resumed is None and (folder / checkpoint.FILE).exists():
        notify(f"the checkpoint in {folder} is damaged: starting this stage again")
    step, log = resumed or (0, Log([], []))
    if distributed.from_main(step) != step:
        raise UserError(
            f"rank {distributed.rank()} found another checkpoint than rank 0: all machines must share one disk"
        )
    if step:
        notify(f"going on from step {step} of {steps}")
        advance(step)
    policy: Policy = accelerator.prepare(Policy(model))  # maybe wrapped: only called, never looked into
    due = recipe.evaluation_steps(steps) if evaluate else frozenset()
    saved = time.monotonic()
    model.train()
    while step < steps:
        set_lr(optimizers, recipe.lr_factor(step, steps))
        torch.manual_seed(seed * 1_000_003 + step)  # dropout, where there is any, resumes with the step
        batches = micro_batches(
            plan.rows,
            plan.steps[step],
            recipe.micro_tokens,
            reference_nll or {},
            accelerator.process_index,
            accelerator.num_processes,
        )
        parts = _gradients(accelerator, policy, method, batches, reference, bf16)
        if recipe.clip_order == "mask_first":
            masking.mask_gradients()
        norm = _clip(model, recipe.clip)
        if recipe.clip_order == "clip_first":
            masking.mask_gradients()
        masking.decay(optimizers)
        if not torch.isfinite(norm):
            raise UserError(
                f"the gradient is no longer finite at step {step + 1} of {steps}: lower train.lr or set train.clip"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        log.history.append(
            {"step": step + 1, "lr": optimizers[-1].param_groups[0]["lr"], "grad_norm": norm.item(), **parts}
        )
        record("train", log.history[-1])
        step += 1
        advance(1, loss=parts["loss"])
        if step in due:
            model.eval()
            point = distributed.from_main(evaluate(step) if distributed.is_main() and evaluate else None)
            log.curve.append({"step": step, **point})
            record("curve", log.curve[-1])
            model.train()
        if distributed.is_main() and time.monotonic() - saved > recipe.checkpoint_seconds:
            checkpoint.save(folder, step, model, optimizers, log, masking.digest)
            saved = time.monotonic()
    model.eval()
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_disable()  # type: ignore[operator]
    return log


def _gradients(
    accelerator: Accelerator,
    policy: Policy,
    method: Method,
    batches: list[Batch],
    reference: Policy | None,
    bf16: bool,
) -> dict[str, float]:
    """Accumulate the gradient of a whole step; the loss and its parts by name, summed over processes."""
    parts: dict[str, Tensor] = {}
    for i, batch in enumerate(batches):
        last = i == len(batches) - 1
        # each recipe has its own precision, while accelerate's is one for the whole process
        autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16)
        with contextlib.nullcontext() if last else accelerator.no_sync(policy):
            with autocast:
                loss = method.loss(policy, batch.to(accelerator.device), reference)
            # DDP averages over processes, while every loss is already a share of the whole step's
            accelerator.backward(loss.total * accelerator.num_processes)
        for name, value in {"loss": loss.total, **loss.parts}.items():
            parts[name] = parts.get(name, torch.zeros((), device=value.device)) + value.detach().float()
    summed = accelerator.reduce(parts, reduction="sum") if accelerator.num_processes > 1 else parts
    return {name: value.item() for name, value in summed.items()}


def _clip(model: nn.Module, limit: float | None) -> Tensor:
    """Clip the gradient of trainable parameters to `limit`; its norm before that."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    return nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
