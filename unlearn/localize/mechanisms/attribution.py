"""Estimate to first order what patching does: (other - base) . gradient, formed as the gradients come by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearn.localize.mechanisms.facts import LEAST_GAP, EncodedFact, corrupt_facts, encode_facts, signal
from unlearn.localize.mechanisms.patching import Patch, Run, contrast, run_patched
from unlearn.models.layout import Block, Layout, Site, matrix
from unlearn.models.projection import precise
from unlearn.models.prompts import PromptBatch, collate
from unlearn.models.sites import Edit, Key, capture, edited, logits_at
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import progress
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject

EMBED: Key = (0, "embed")
BACKWARD = 16  # a backward pass keeps the activations of all layers: it gets this part of the token budget
Pair = tuple[EncodedFact, EncodedFact]  # the run that is looked at, and the one that values come from


@dataclass(frozen=True)
class Watch:
    """Look at what passes some sites, as it comes by."""

    keys: Sequence[Key]
    """The sites: (layer, name)."""
    see: Callable[[Key, Tensor], None]
    """Gets a site and what is there, [B, T, heads, width]."""


@dataclass(frozen=True)
class Attribution:
    """Hold estimates for B prompts, and m = logit(answer) - mean logit(foils) in the two runs."""

    scores: dict[Any, Tensor]
    """Of sites [B, heads] by (layer, name), summed over tokens and features; of "resid" [B, T], by token; of edges [B,
    1] by (source, target)."""
    base: Tensor
    """m in the run that is looked at, [B]."""
    other: Tensor
    """m in the run that values come from, [B]."""


def attribute(
    model: nn.Module,
    layout: Layout,
    base: Sequence[EncodedFact],
    other: Sequence[EncodedFact],
    keys: Iterable[Key],
    points: int = 0,
) -> Attribution:
    """Return (a_other - a_base) . dm/da on the base run for every site a: an estimate of m(a set to a_other) - m.

    Two forwards and one backward. With points, integrated gradients: the mean gradient of n runs whose embeddings lie
    between the two, base + (i + 1/2) / n (other - base); n + 2 forwards and n backwards. Differences are all that is
    kept; each gradient is reduced as it arrives.
    """
    keys = list(keys)
    inputs, others = _batch(model, base), _batch(model, other)
    logits, values = capture(model, layout, [*keys, EMBED], others)
    m_other = contrast(logits, base)
    scores: dict[Any, Tensor] = {}

    def subtract(key: Key, value: Tensor) -> None:
        values[key] = values[key] - value

    def reduce(key: Key, gradient: Tensor) -> None:
        product = precise(values[key] * gradient)
        score = product.sum((2, 3) if key[1] == "resid" else (1, 3)) / max(points, 1)
        scores[key] = scores[key] + score if key in scores else score

    if not points:
        m_base = run_backward(model, layout, base, inputs, Watch(keys, subtract), Watch(keys, reduce))
        return Attribution({key: scores[key] for key in keys}, m_base, m_other)
    logits, starts = capture(model, layout, [*keys, EMBED], inputs)
    start = starts[EMBED]
    for key, value in starts.items():
        subtract(key, value)
    for i in range(points):
        between = (start + (i + 0.5) / points * values[EMBED]).squeeze(2)
        run_backward(model, layout, base, inputs, Watch((), subtract), Watch(keys, reduce), between)
    return Attribution({key: scores[key] for key in keys}, contrast(logits, base), m_other)


def attribute_edges(
    model: nn.Module, layout: Layout, base: Sequence[EncodedFact], other: Sequence[EncodedFact]
) -> Attribution:
    """Return (u_other - u_base) . dm/d(what d reads) on the base run, for every source u and every target d after it.

    u: embed (the residual entering layer 0), head.l.h (what the head adds to the residual; attn.l as a whole where a
    post-norm follows, as its heads do not add up), mlp.l. d: attn.l, mlp.l, logits (what the final norm takes). The sum
    of u's edges is u's own attribution. Two forwards and one backward.
    """
    inputs, others = _batch(model, base), _batch(model, other)
    sources: list[Key] = [(0, "attn_in")]
    targets: list[Key] = []
    for layer, block in enumerate(layout.blocks):
        sources += [(layer, "z" if block.linear else "attn_out"), (layer, "mlp_out")]
        targets += [(layer, "attn_in"), (layer, "mlp_in")]
    targets.append((len(layout.blocks), "final"))
    logits, values = capture(model, layout, sources, others)
    scores: dict[Any, Tensor] = {}

    def subtract(key: Key, value: Tensor) -> None:
        values[key] = values[key] - value

    def reduce(target: Key, gradient: Tensor) -> None:
        for source in sources:
            if _before(layout, source, target):
                wanted = _before_output(layout.blocks[source[0]], gradient) if source[1] == "z" else gradient
                for head, score in enumerate(precise(values[source] * wanted).sum((1, 3)).T):
                    scores[_source_name(source, head), _target_name(target)] = score[:, None]

    m_base = run_backward(model, layout, base, inputs, Watch(sources, subtract), Watch(targets, reduce))
    return Attribution(scores, m_base, contrast(logits, base))


def run_backward(
    model: nn.Module,
    layout: Layout,
    facts: Sequence[EncodedFact],
    inputs: PromptBatch,
    values: Watch,
    gradients: Watch,
    embeddings: Tensor | None = None,
) -> Tensor:
    """Run one forward and one backward of m, and return m: [B].

    values: looked at in the forward; gradients: in the backward. The gradient of what a module takes is that through
    this module alone. embeddings [B, T, d]: in the place of the inputs' own.
    """
    seen, wanted = dict.fromkeys(values.keys), dict.fromkeys(gradients.keys)
    rows = len(inputs.ids)
    leaf: list[Tensor] = []

    def begin(tensor: Tensor) -> Tensor:
        leaf.append((tensor if embeddings is None else embeddings).detach().requires_grad_())
        return leaf[0]

    def at(key: Key) -> tuple[Site, Edit]:
        site = layout.site(*key)

        def look(tensor: Tensor) -> Tensor | None:
            if key in seen:
                values.see(key, site.view(tensor.detach(), rows))
            if key not in wanted:
                return None
            branch = tensor.clone() if site.takes else tensor
            branch.register_hook(lambda gradient: gradients.see(key, site.view(gradient, rows)))
            return branch

        return site, look

    with torch.enable_grad(), edited((layout.embed, begin), *map(at, {**seen, **wanted})):
        metric = contrast(logits_at(model, inputs.ids, inputs.index), facts)
        torch.autograd.grad(metric.sum(), leaf)
    return metric.detach()


def exact(
    model: nn.Module,
    layout: Layout,
    base: EncodedFact,
    other: EncodedFact,
    patches: Sequence[Patch],
    token_budget: int,
) -> Tensor:
    """Return m(base run with its sites set to the other run's values) - m(base run), by brute force: [patches]."""
    keys = {key for patch in patches for key in patch.sites}
    _, values = capture(model, layout, keys, _batch(model, [other]))
    source = {key: value[0] for key, value in values.items()}
    foils = list(base.foils)

    def metric(logits: Tensor) -> Tensor:
        return logits[:, base.answer] - logits[:, foils].mean(1)

    unpatched, *patched = run_patched(Run(model, layout, base.ids), [Patch(()), *patches], source, metric, token_budget)
    found: Tensor = torch.cat(patched) - unpatched
    return found


@dataclass(frozen=True)
class Estimates:
    """Hold all prompts' estimates."""

    labels: list[tuple[Any, ...]]
    """What each score is of: [n]."""
    scores: np.ndarray
    """[prompts, n]."""
    gap: float
    """Mean m(clean) - mean m(corrupt)."""
    scale: float
    """What normalised scores are shares of: the gap, or nan where it is too small."""


def pair_facts(subject: Subject, task: Task, most: int, direction: str, seed: int) -> list[Pair]:
    """Return the task's first `most` facts with foils, each as (base, other) prompt.

    (clean, corrupt), or for denoising (corrupt, clean). UserError where no foil begins otherwise than its answer does.
    """
    facts = [fact for fact in encode_facts(subject, task, most) if fact.foils]
    if not facts:
        raise UserError(
            f"none of the first {most} facts of dataset '{task.name}' has a wrong answer that begins with "
            "another token than the right one, so nothing tells them apart"
        )
    pairs = zip(facts, corrupt_facts(facts, subject.processor, seed), strict=True)
    return [(clean, corrupt) if direction == "noising" else (corrupt, clean) for clean, corrupt in pairs]


def estimate(
    subject: Subject,
    pairs: Sequence[Pair],
    direction: str,
    function: Callable[[Sequence[EncodedFact], Sequence[EncodedFact]], Attribution],
) -> Estimates:
    """Return what `function` gives over batches of pairs.

    Says so where destroying the subject hardly changes the metric.
    """
    labels: list[tuple[Any, ...]] = []

    def rows(batch: list[Pair]) -> list[np.ndarray]:
        found = function(*zip(*batch, strict=True))
        labels[:] = [(*key, i) for key, score in found.scores.items() for i in range(score.shape[1])]
        columns = [found.base[:, None], found.other[:, None], *found.scores.values()]
        return list(torch.cat(columns, 1).cpu().numpy())

    with progress("attribution", total=len(pairs)) as advance:
        budget = subject.token_budget // BACKWARD
        each: list[np.ndarray] = map_batches(rows, pairs, lambda pair: len(pair[0].ids), budget, progress=advance)
    table = np.stack(each)
    gap = float(np.mean(table[:, 0] - table[:, 1])) * (1 if direction == "noising" else -1)
    return Estimates(labels, table[:, 2:], gap, signal(gap, LEAST_GAP, "logit contrast"))


def _batch(model: nn.Module, facts: Sequence[EncodedFact]) -> PromptBatch:
    return collate([fact.ids for fact in facts], next(model.parameters()).device)


def _before(layout: Layout, source: Key, target: Key) -> bool:
    """Return whether what `source` adds to the residual reaches `target`."""
    if source[1] == "attn_in" or source[0] != target[0]:
        return source[1] == "attn_in" or source[0] < target[0]
    return source[1] != "mlp_out" and target[1] == "mlp_in" and not layout.blocks[source[0]].parallel


def _before_output(block: Block, gradient: Tensor) -> Tensor:
    """Return a gradient [B, T, 1, d] of the residual as one of the heads' outputs, [B, T, heads, width]."""
    found: Tensor = (gradient.squeeze(2) @ matrix(block.output)).unflatten(-1, (block.heads, -1))
    return found


def _source_name(key: Key, head: int) -> str:
    layer, site = key
    return {"attn_in": "embed", "z": f"head.{layer}.{head}", "attn_out": f"attn.{layer}", "mlp_out": f"mlp.{layer}"}[
        site
    ]


def _target_name(key: Key) -> str:
    layer, site = key
    return {"attn_in": f"attn.{layer}", "mlp_in": f"mlp.{layer}", "final": "logits"}[site]
