"""Perturbations of a model's activations, fitted by gradient so that it answers: the engine of soft prompts and PGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unlearn.attacks.base import AnswerMetric, AttackSetting, Inapplicable, Outcome
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.putting import encode_answers
from unlearn.attacks.setting.self_estimate import evaluate_with_estimate
from unlearn.data.task import Question, Task
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Generator, Tensor

    from unlearn.data.prompt import Encoded
    from unlearn.models.subject import Subject

Pairs = Sequence[tuple[Question, str]]  # questions and the answers that are wanted
CLIP = 1.0  # largest norm of a step's gradient


class Perturbation(Protocol):
    """Something learned that a model is run under."""

    subject: Subject
    """The model, as it is asked under it."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return what is learned: leaves with gradients."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """While active, the model computes with the perturbation; on leaving, also by an error, no hook is left."""
        ...

    def project(self) -> None:
        """Bring what is learned back within its norm."""
        ...


@dataclass(frozen=True)
class Targets:
    """What a model is to be led to.

    loss = toward * mean over rows of the answer's mean nll + away * the same mean of -log(1 - p) of a refusal's tokens.
    """

    pairs: Pairs
    """Questions, and answers that it is led to."""
    refusals: Pairs = ()
    """Questions, and refusals that it is led away from."""
    toward: float = 1.0
    """Weight of the answers."""
    away: float = 0.0
    """Weight of the refusals."""


@dataclass(frozen=True)
class Schedule:
    """How a perturbation is fitted."""

    steps: int
    """How many steps."""
    lr: float
    """Learning rate."""
    batch: int
    """Rows drawn for each step."""


def fit(
    perturbation: Perturbation,
    targets: Targets,
    schedule: Schedule,
    seed: int,
    on_step: Callable[[int], object] = lambda step: None,
) -> None:
    """Fit a perturbation by AdamW without weight decay on the targets' loss.

    Gradients that are not finite count as 0, their norm is clipped to 1, and each step ends with `project`.
    on_step(step) is called after each step. The model's weights, mode and gradients stay as they are.
    """
    import torch

    from unlearn.models.sites import at_rest

    subject = perturbation.subject
    model, parameters = subject.module, list(perturbation.parameters)
    rows = encode_answers(subject, targets.pairs)
    refused = encode_answers(subject, targets.refusals)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=0.0)
    with at_rest(model):
        for step in range(1, schedule.steps + 1):
            optimizer.zero_grad()
            with perturbation.active():
                _backward(subject, parameters, _drawn(rows, schedule.batch, generator), targets.toward, _nll)
                if targets.away:
                    chosen = _drawn(refused, schedule.batch, generator)
                    _backward(subject, parameters, chosen, targets.away, _unlikelihood)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            with torch.no_grad():
                perturbation.project()
            on_step(step)


def clip_rows(vectors: Tensor, norm: Tensor | float) -> Tensor:
    """Return the vectors [.., d], those longer than `norm` (L2) shortened to it."""
    length = vectors.norm(dim=-1, keepdim=True)
    found: Tensor = vectors * (norm / length.clamp_min(1e-12)).clamp_max(1.0)
    return found


def evaluate_under(
    perturbation: Perturbation,
    setting: AttackSetting,
    variant: str,
    seed: int,
    budget: float,
    row: str = "",
) -> Outcome:
    """Ask all questions under the perturbation; the attacker's own estimate is from its own items, asked so too.

    row: names a diagnostic, which never counts for the worst case.
    """
    about = {"seed": seed, "budget": budget, "row": row, "counts": not row}
    with perturbation.active():
        return evaluate_with_estimate(perturbation.subject, setting, variant, **about)


def force_each(
    setting: AttackSetting, variant: str, seed: int, fitted: Callable[[Question], Perturbation], budget: float
) -> Outcome:
    """Attack each held-out item for itself, a diagnostic.

    K of an item is K under what was fitted to its answer minus K of a wrong answer under what was fitted to that: a
    model can be forced to say anything (arXiv 2502.15836), and only the difference is about what it knows.

    Both answers are asked for as whole sentences in the same wording.
    """
    known: list[float] = []
    texts: list[str] = []
    for item in setting.held_out_items:
        probe = item.probe
        if not probe.perturbed_answers:
            raise Inapplicable("an item has no wrong answer that it could be forced to")
        said = []
        for answer in (probe.paraphrased_answer or probe.answer, probe.perturbed_answers[0]):
            wanted = replace(probe, answer=answer, paraphrased_answer=None, perturbed_answers=(), value=None)
            perturbation = fitted(wanted)
            with perturbation.active():
                metric: AnswerMetric | None = "match" if setting.answer_metric == "mcq" else None
                found = ask(perturbation.subject, setting, [wanted], metric)
            said.append(float(found.known[0]))
            texts += found.texts[:1] if len(said) == 1 else []
        known.append(said[0] - said[1])
    return Outcome(variant, np.array(known), texts, seed, budget=budget, row="per_item", counts=False)


def check_forced(task: Task, steps: int) -> None:
    """UserError where forget probes without wrong answers are to be forced one by one."""
    probes = [probe for probe_set in task.probes if probe_set.aim == "forget" for probe in probe_set.probes]
    if steps and not all(probe.perturbed_answers for probe in probes):
        raise UserError(f"forcing single items wants wrong answers, which probes of dataset '{task.name}' do not have")


def _drawn(rows: Sequence[Encoded], batch: int, generator: Generator) -> list[Encoded]:
    import torch

    order = torch.randperm(len(rows), generator=generator)[:batch]
    return [rows[i] for i in order.tolist()]


def _backward(
    subject: Subject,
    parameters: Sequence[Tensor],
    rows: Sequence[Encoded],
    weight: float,
    loss: Callable[[Tensor], Tensor],
) -> None:
    """Add the gradient of weight * mean over rows of the row's mean `loss` of its nll [tokens]; halves batches."""
    import torch

    from unlearn.models.batches import Batch, Segment, pad_rows
    from unlearn.models.policy import Policy
    from unlearn.score.batching import map_batches

    def run(batch: list[Encoded]) -> list[float]:
        ids, mask, labels = (tensor.to(subject.module.device) for tensor in pad_rows(batch))
        segments = {"answers": Segment(0, len(batch), len(batch), 1)}
        with torch.enable_grad():
            scores = Policy(subject.module)(Batch(ids, mask, labels, segments))["answers"]
            by_row = (loss(scores.nll) * scores.mask).sum(1) / scores.counts
            gradients = torch.autograd.grad(weight * by_row.sum() / len(rows), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        found: list[float] = by_row.tolist()
        return found

    map_batches(run, rows, lambda row: len(row.ids), subject.token_budget)


def _nll(nll: Tensor) -> Tensor:
    return nll


def _unlikelihood(nll: Tensor) -> Tensor:
    """Return -log(1 - p) of tokens with this nll."""
    import torch

    return -torch.log1p(-torch.exp(-nll.clamp_min(1e-6)))
