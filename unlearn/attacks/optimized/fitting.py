"""Perturbations of a model's activations, fitted by gradient so that it answers: the engine of soft prompts and PGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unlearn.attacks.base import AttackSetting, Inapplicable, Outcome
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.self_estimate import evaluate_with_choice
from unlearn.data.prompt import Encoded
from unlearn.data.task import Probe
from unlearn.models.batches import Batch, Segment, pad_rows
from unlearn.models.policy import Policy
from unlearn.models.sites import at_rest
from unlearn.models.subject import Subject
from unlearn.score.batching import map_batches

CLIP = 1.0  # largest norm of a step's gradient


class Perturbation(Protocol):
    """Something learned that a model is run under. suspect: the model as it is asked under it."""

    subject: Subject

    @property
    def parameters(self) -> Sequence[Tensor]:
        """What is learned: leaves with gradients."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """While it is open the model computes with the perturbation; on leaving, also by an error, no hook is left."""
        ...

    def project(self) -> None:
        """Bring what is learned back within its norm."""
        ...


def fit(
    perturbation: Perturbation,
    pairs: Sequence[tuple[str, str]],
    steps: int,
    lr: float,
    batch: int,
    seed: int,
    look: Callable[[int], object] = lambda step: None,
    refusals: Sequence[tuple[str, str]] = (),
    toward: float = 1.0,
    away: float = 0.0,
) -> None:
    """AdamW without weight decay on the pairs (question, answer), `batch` of them drawn for each step.

    loss = toward * mean over rows of the answer's mean nll + away * the same mean of -log(1 - p) of the refusals'
    tokens. Gradients that are not finite count as 0, their norm is clipped to 1, and each step ends with `project`.
    look(step) is called after each step. The model's weights, mode and gradients stay as they are.
    """
    subject = perturbation.subject
    model, parameters = subject.module, list(perturbation.parameters)
    rows = subject.prompt.encode_all(subject.processor, pairs)
    refused = subject.prompt.encode_all(subject.processor, refusals)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    with at_rest(model):
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            with perturbation.active():
                _backward(subject, parameters, _drawn(rows, batch, generator), toward, _nll)
                if away:
                    _backward(subject, parameters, _drawn(refused, batch, generator), away, _unlikelihood)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            with torch.no_grad():
                perturbation.project()
            look(step)


def clip_rows(vectors: Tensor, norm: Tensor | float) -> Tensor:
    """The vectors [.., d], those longer than `norm` (L2) shortened to it."""
    length = vectors.norm(dim=-1, keepdim=True)
    found: Tensor = vectors * (norm / length.clamp_min(1e-12)).clamp_max(1.0)
    return found


def judge_under(
    perturbation: Perturbation,
    setting: AttackSetting,
    variant: str,
    seed: int,
    budget: float,
    row: str = "",
    counts: bool = True,
) -> Outcome:
    """All questions asked under the perturbation; the attacker's success is that on its own items."""
    with perturbation.active():
        return evaluate_with_choice(
            perturbation.subject, setting, variant, seed=seed, budget=budget, row=row, counts=counts
        )


def forced_false(
    subject: Subject,
    setting: AttackSetting,
    variant: str,
    seed: int,
    fitted: Callable[[Probe], Perturbation],
    budget: float,
) -> Outcome:
    """Each scored item attacked for itself: K under what was fitted to its answer minus K of a wrong answer under what
    was fitted to that. A model can be forced to say anything; only the difference is about what it knows. A diagnostic.

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
                found = ask(
                    perturbation.subject, setting, [wanted], "match" if setting.answer_metric == "mcq" else None
                )
            said.append(float(found.known[0]))
            texts += found.texts[:1] if len(said) == 1 else []
        known.append(said[0] - said[1])
    return Outcome(variant, np.array(known), texts, seed, budget=budget, row="per_item", counts=False)


def _drawn(rows: Sequence[Encoded], batch: int, generator: torch.Generator) -> list[Encoded]:
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

    def run(batch: list[Encoded]) -> list[float]:
        ids, mask, labels = (tensor.to(subject.module.device) for tensor in pad_rows(batch))
        segments = {"taught": Segment(0, len(batch), len(batch), 1)}
        with torch.enable_grad():
            scores = Policy(subject.module)(Batch(ids, mask, labels, segments))["taught"]
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
    """-log(1 - p) of tokens with this nll."""
    return -torch.log1p(-torch.exp(-nll.clamp_min(1e-6)))
