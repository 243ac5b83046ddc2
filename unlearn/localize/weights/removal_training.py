"""Train so that weights can only be taken away: SGD that keeps every weight between zero and its original value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.data.prompt import Encoded
from unlearn.models.batches import Batch, micro_batches
from unlearn.models.policy import Policy, TokenScores
from unlearn.models.projection import precise
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    import random

    from unlearn.models.mask import Mask

_ROWS = "rows"  # the segment that all rows are scored as


@dataclass(frozen=True)
class Term:
    """One term of the loss: weight * loss of `rows`."""

    rows: Sequence[Encoded]
    """The rows that it is of."""
    weight: float
    """How much it counts."""
    loss: Callable[[TokenScores, Batch], Tensor]
    """Gives, for a micro-batch, its part of a mean over the step."""


@dataclass(frozen=True)
class Settings:
    """Set SGD on `batch` rows of every term, at a rate that falls along a cosine."""

    updates: int
    """How many updates the weights get."""
    batch: int
    """Rows of each term in an update."""
    lr: float
    """Rate of the first update; it falls to 0."""
    momentum: float
    """Momentum of SGD."""
    weight_decay: float
    """Weight decay of SGD."""
    clip: float
    """Largest global norm of the gradient."""
    l1: float
    """What the L1 penalty on the weights is at the start."""
    micro_tokens: int
    """Tokens that are run at a time."""


def nll(scores: TokenScores, batch: Batch) -> Tensor:
    """Return the mean over answer tokens of -log p."""
    return scores.token_mean()


def unlikelihood(scores: TokenScores, batch: Batch) -> Tensor:
    """Return the mean over answer tokens of -log(1 - p), where a token with log p < -5 is gone and counts 0.

    -log(1 - p) = logsumexp(all logits) - logsumexp(all but the token's): finite and with a gradient also at p = 1.
    """
    assert scores.logits is not None
    logits, targets = precise(scores.logits), batch.labels[:, 1:][scores.mask]
    others = logits.scatter(1, targets[:, None], -math.inf).logsumexp(1)
    present = scores.nll.detach()[scores.mask] <= 5
    return torch.where(present, logits.logsumexp(1) - others, 0.0).sum() / scores.segment.total_tokens


@contextmanager
def kept(model: nn.Module, within: Mask) -> Iterator[dict[str, Tensor]]:
    """Yield the original values of the tensors that `within` selects from, trainable meanwhile; restore them after."""
    trainable = {name: p.requires_grad for name, p in model.named_parameters()}
    originals = {name: p.detach().clone() for name, p in model.named_parameters() if within.tensors[name] is not False}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in originals)
        yield originals
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(trainable[name])
                if name in originals:
                    parameter.grad = None
                    parameter.copy_(originals[name])


def shrink(
    model: nn.Module,
    within: Mask,
    originals: Mapping[str, Tensor],
    terms: Sequence[Term],
    settings: Settings,
    rng: random.Random,
    advance: Callable[..., None],
) -> dict[str, Tensor]:
    """Train the weights of `within` in place, each clamped between 0 and its original after every update.

    Returns for each weight that ends at 0 how long ago it first was there, in updates: int16, from 1 for the last
    update; 0 for all others and where the original is 0 or fixed. UserError where training diverges: the gradient is
    not finite, or one update is larger than all of the weights.
    """
    policy = Policy(model)
    weights = {name: p for name, p in model.named_parameters() if name in originals}
    partial = {name: within.bits(name, w.device) for name, w in weights.items() if not within.is_whole(name)}
    size = sum(float((w.detach() * partial.get(name, 1)).abs().sum()) for name, w in weights.items())
    penalty = settings.l1 / max(size, 1e-30)
    length = _norm(w.detach() * partial.get(name, 1) for name, w in weights.items())
    ages = {name: torch.zeros_like(w, dtype=torch.int16, requires_grad=False) for name, w in weights.items()}
    optimizer = torch.optim.SGD(
        weights.values(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    draws = [_passes(len(term.rows), settings.batch, rng) for term in terms]
    for update in range(settings.updates):
        loss = 0.0
        for term, draw in zip(terms, draws, strict=True):
            for batch, scores in _scored(policy, term.rows, next(draw), settings.micro_tokens):
                part = term.weight * term.loss(scores, batch)
                part.backward()
                loss += part.item()
        for name, weight in weights.items():
            assert weight.grad is not None
            weight.grad += penalty * weight.detach().sign()
            if name in partial:
                weight.grad *= partial[name]
        if not torch.isfinite(nn.utils.clip_grad_norm_(weights.values(), settings.clip)):
            raise UserError(f"the gradient is no longer finite at update {update + 1}: lower lr")
        optimizer.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * update / settings.updates)) / 2
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            if not _norm(w * partial.get(name, 1) for name, w in weights.items()) <= 2 * length:  # from within `length`
                raise UserError(f"update {update + 1} is larger than all of the weights together: lower lr")
            for name, weight in weights.items():
                free = originals[name] * partial.get(name, 1)  # what of the original may go
                fixed = originals[name] - free
                weight.copy_(weight.clamp(fixed + free.clamp(max=0), fixed + free.clamp(min=0)))
                ages[name][(weight == 0) & (free != 0) & (ages[name] == 0)] = settings.updates - update
        advance(1, loss=loss)
    return {name: age * (weights[name] == 0) for name, age in ages.items()}


def removed(weights: Mapping[str, Tensor], originals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the share of each weight that is gone, (original - weight) / original in [0, 1], float32; 0 for 0."""
    shares = {}
    for name, original in originals.items():
        gone = original.float() - weights[name].detach().float()
        shares[name] = torch.where(original == 0, 0.0, gone / original.float())
    return shares


def rank(shares: dict[str, Tensor], ages: Mapping[str, Tensor], originals: Mapping[str, Tensor]) -> None:
    """Turn the shares that are gone, in place, into scores that tell weights at 0 apart; all others keep theirs, < 1.

    At 0 the score is the weight's age there (see `shrink`) plus at most 1/2 for the size of its original: the first to
    go is the most important, and of those that went together the largest.
    """
    largest = max((float(original.abs().max()) for original in originals.values()), default=0.0) or 1.0
    for name, share in shares.items():
        score = ages[name] + originals[name].float().abs() / (2 * largest)
        shares[name] = torch.where(ages[name] > 0, score, share)


def probability(model: nn.Module, rows: Sequence[Encoded], micro_tokens: int) -> float:
    """Return the mean over `rows` of an answer's probability, as the geometric mean over its tokens."""
    total = 0.0
    with torch.inference_mode():
        for _, scores in _scored(Policy(model), rows, range(len(rows)), micro_tokens):
            total += float((-scores.sums / scores.counts).exp().sum())
    return total / len(rows)


def _norm(tensors: Iterable[Tensor]) -> float:
    """Return the L2 norm of all of them together."""
    return math.hypot(*(float(torch.linalg.vector_norm(t.detach(), dtype=torch.float32)) for t in tensors))


def _scored(
    policy: Policy, rows: Sequence[Encoded], numbers: Sequence[int], micro_tokens: int
) -> Iterator[tuple[Batch, TokenScores]]:
    """Yield these rows in micro-batches, and their scores with the logits of the answers' tokens."""
    device = next(policy.parameters()).device
    for batch in micro_batches(rows, {_ROWS: numbers}, micro_tokens):
        placed = batch.to(device)
        yield placed, policy(placed, {_ROWS: "labels"})[_ROWS]


def _passes(rows: int, size: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield endless batches of row numbers in shuffled passes; of few rows, a batch holds each more than once."""
    pool: list[int] = []
    while True:
        while len(pool) < size:
            pool += rng.sample(range(rows), rows)
        yield pool[:size]
        del pool[:size]
