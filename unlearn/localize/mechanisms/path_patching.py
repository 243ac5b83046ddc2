"""Patch paths into a corrupted run: which heads write the answer directly, and which MLPs enrich what heads read.

After Guo et al. 2024 (Mechanistic Unlearning, arXiv 2410.12949). The metric is `patching.contrast`, logit(answer) -
mean logit(foils), and what patching does to it is a share of what restoring the whole prompt does.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.localize.mechanisms.facts import EncodedFact
from unlearn.localize.mechanisms.patching import contrast
from unlearn.models.prompts import PromptBatch, collate
from unlearn.models.sites import at_rest, capture, edited, logits_at
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from unlearn.models.layout import Layout

Pair = tuple[EncodedFact, EncodedFact]
"""A fact, and the same with its subject destroyed."""


@dataclass(frozen=True)
class Patched:
    """Hold the metric of n facts."""

    clean: Tensor
    """Of the clean run, [n]."""
    corrupt: Tensor
    """Of the corrupt run, [n]."""
    patched: Tensor
    """Of the corrupt run when patched, [n, ...]."""

    @property
    def gap(self) -> float:
        """Return how much the subject matters: mean of clean - corrupt."""
        return float((self.clean - self.corrupt).mean())

    @property
    def recovered(self) -> Tensor:
        """Return (mean patched - mean corrupt) / gap, [...].

        0 is as corrupt, 1 as clean, below 0 is worse than corrupt.
        """
        return (self.patched.mean(0) - self.corrupt.mean()) / self.gap


def direct_effects(
    model: nn.Module,
    parts: Layout,
    pairs: Sequence[Pair],
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Patched:
    """Return the effect of each head's clean output, put into the corrupt run, on the final residual alone.

    `patched` is [n, layers, heads]. To first order, from a clean and a corrupt forward and one backward: (z_clean -
    z_corrupt) . dm/dz at the last token. The corrupt run is cut at every head's output, so its gradient there follows
    the residual stream and the MLPs on the way, which may respond, while all other heads stay as they are.
    """
    keys = [(layer, "z") for layer in range(len(parts.blocks))]

    def effects(pairs: list[Pair]) -> list[tuple[Tensor, Tensor, Tensor]]:
        (clean, corrupt), facts, outputs = _batches(model, pairs), [fact for fact, _ in pairs], []

        def cut(tensor: Tensor) -> Tensor:
            outputs.append(tensor.detach().requires_grad_())
            return outputs[-1]

        logits, restored = capture(model, parts, keys, clean)
        with torch.enable_grad(), edited(*((parts.site(*key), cut) for key in keys)):
            metric = contrast(logits_at(model, corrupt.ids, corrupt.index), facts)
            gradients = torch.autograd.grad(metric.sum(), outputs)
        patched = []
        for key, output, gradient in zip(keys, outputs, gradients, strict=True):
            view = parts.site(*key).view
            change = (restored[key] - view(output.detach(), len(pairs))) * view(gradient, len(pairs))
            patched.append(metric.detach()[:, None] + change.flatten(0, 1)[corrupt.index].sum(-1))
        return list(zip(contrast(logits, facts), metric.detach(), torch.stack(patched, 1), strict=True))

    return _patched(model, effects, pairs, 1, token_budget, progress)


def enrichment(
    model: nn.Module,
    parts: Layout,
    pairs: Sequence[Pair],
    receiver: int,
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Patched:
    """Return the effect of what an MLP's output changes from corrupt to clean, added to what enters layer `receiver`.

    `patched` is [n, receiver]: one entry for each MLP before that layer, added to the corrupt run at all positions,
    with nothing in between recomputed. All MLPs are rows of one forward, which begins at that layer.
    """
    keys = [(layer, "mlp_out") for layer in range(receiver)]
    entering = (receiver - 1, "resid")

    def effects(pairs: list[Pair]) -> list[tuple[Tensor, Tensor, Tensor]]:
        (clean, corrupt), facts = _batches(model, pairs), [fact for fact, _ in pairs]
        before, restored = capture(model, parts, keys, clean)
        after, values = capture(model, parts, [*keys, entering], corrupt)
        residual = torch.cat([values[entering] + restored[key] - values[key] for key in keys]).squeeze(-2)
        rows = collate([fact.ids for _, fact in pairs] * receiver, corrupt.ids.device)
        with torch.no_grad(), _begun([block.module for block in parts.blocks[:receiver]], residual):
            patched = contrast(logits_at(model, rows.ids, rows.index), facts * receiver).view(receiver, -1)
        return list(zip(contrast(before, facts), contrast(after, facts), patched.T, strict=True))

    return _patched(model, effects, pairs, receiver, token_budget, progress)


def _patched(
    model: nn.Module,
    effects: Callable[[list[Pair]], list[tuple[Tensor, Tensor, Tensor]]],
    pairs: Sequence[Pair],
    copies: int,
    token_budget: int,
    progress: Callable[[int], object] | None,
) -> Patched:
    """Return `effects` of all pairs, in batches; each pair takes the room of `copies` rows."""
    with at_rest(model):
        rows = map_batches(effects, pairs, lambda pair: copies * len(pair[0].ids), token_budget, progress=progress)
    clean, corrupt, patched = (torch.stack(values).cpu() for values in zip(*rows, strict=True))
    return Patched(clean, corrupt, patched)


def _batches(model: nn.Module, pairs: Sequence[Pair]) -> tuple[PromptBatch, ...]:
    device = next(model.parameters()).device
    return tuple(collate([fact.ids for fact in facts], device) for facts in zip(*pairs, strict=True))


@contextmanager
def _begun(blocks: Sequence[nn.Module], residual: Tensor) -> Iterator[None]:
    """Let each of these blocks give `residual` instead of running, as long as the context lasts."""

    def skip(*args: object, **kwargs: object) -> Tensor:
        return residual

    for block in blocks:
        block.forward = skip
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
