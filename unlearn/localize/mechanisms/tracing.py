"""Run with noise on the subject and put states of the clean run back: what causal tracing measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.localize.mechanisms.facts import EncodedFact, seeded
from unlearn.localize.mechanisms.patching import Patch, Run, run_patched
from unlearn.models.prompts import collate
from unlearn.models.sites import capture

if TYPE_CHECKING:
    from unlearn.models.layout import Layout

KINDS = {"hidden": "resid", "mlp": "mlp_out", "attention": "attn_out"}  # what is restored at a token, and its site
Cell = tuple[str, int, int]  # what is restored: (kind or site, layer, token or head)


@dataclass(frozen=True)
class Trace:
    """Hold one prompt's probability of the answer."""

    clean: float
    """In the clean run."""
    corrupt: Tensor
    """With noise on the subject: [S]."""
    restored: Mapping[Cell, Tensor]
    """With noise, and what the cell says put back: [S] by cell."""

    @property
    def total_effect(self) -> float:
        """Return TE = p(clean) - p(noised)."""
        return self.clean - float(self.corrupt.mean())

    def indirect_effect(self, cell: Cell) -> float:
        """Return IE = p(restored) - p(noised); exactly 0 for the cells that were skipped."""
        return float((self.restored[cell] - self.corrupt).mean()) if cell in self.restored else 0.0


def site_patches(layout: Layout) -> dict[Cell, Patch]:
    """Return a patch for every head's output ("z") and every MLP's ("mlp_out", as head 0), each at all tokens."""
    patches: dict[Cell, Patch] = {}
    for layer, block in enumerate(layout.blocks):
        patches |= {("z", layer, head): Patch(((layer, "z"),), head=head) for head in range(block.heads)}
        patches["mlp_out", layer, 0] = Patch(((layer, "mlp_out"),))
    return patches


def token_patches(fact: EncodedFact, layers: int, window: int) -> dict[Cell, Patch]:
    """Return patches, at each token, of each layer's hidden state and windows of MLP and attention outputs around it.

    What has no effect is left out: before the subject the two runs are one, and what the last layer writes is read at
    the last token alone.
    """
    patches: dict[Cell, Patch] = {}
    for token in range(fact.mentions[0][0], len(fact.ids)):
        for kind, site in KINDS.items():
            for layer in range(layers):
                span = range(layer, layer + 1) if kind == "hidden" else windowed(layer, layers, window)
                if token == fact.position or span[0] < layers - 1:
                    patches[kind, layer, token] = Patch(tuple((at, site) for at in span), token=token)
    return patches


def windowed(layer: int, layers: int, width: int) -> range:
    """Return ROME's window: max(0, l - floor(w / 2)) to min(L, l + ceil(w / 2)) - 1."""
    return range(max(0, layer - width // 2), min(layers, layer + (width + 1) // 2))


def trace(
    model: nn.Module,
    layout: Layout,
    fact: EncodedFact,
    noise: Tensor,
    patches: Mapping[Cell, Patch],
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Trace:
    """Run all restorations of one prompt.

    noise: [S, T, d], added to the embeddings; the same for every one of them.
    """
    keys = {key for patch in patches.values() for key in patch.sites}
    logits, clean = capture(model, layout, keys, collate([fact.ids], noise.device))

    def probability(logits: Tensor) -> Tensor:
        return logits.softmax(-1)[:, fact.answer]

    every = [Patch(()), *patches.values()]  # the first restores nothing
    source = {key: values[0] for key, values in clean.items()}
    corrupt, *restored = run_patched(
        Run(model, layout, fact.ids, noise), every, source, probability, token_budget, progress
    )
    return Trace(float(probability(logits)), corrupt, dict(zip(patches, restored, strict=True)))


def subject_noise(
    model: nn.Module, layout: Layout, facts: Sequence[EncodedFact], rule: str | float, samples: int, seed: int
) -> list[Tensor]:
    """Return noise for each fact, [S, T, d]: Gaussian on the subject's tokens, else 0.

    It is drawn from (seed, prompt, subject) alone.

    Standard deviation, with s measured on what the embeddings give (some models scale inside): rome3, 3 s over the
    subjects of all facts; sqrt3, sqrt(3 s) of the fact's own subject; or the number itself.
    """
    embedded = [
        capture(model, layout, [(0, "embed")], collate([fact.ids], _device(model)))[1][0, "embed"][0, :, 0]
        for fact in facts
    ]
    places = [torch.cat([torch.arange(*span) for span in fact.mentions]) for fact in facts]
    entities = [states[where] for where, states in zip(places, embedded, strict=True)]
    every = float(torch.cat(entities).std())
    noises = []
    for fact, where, states, own in zip(facts, places, embedded, entities, strict=True):
        deviation = rule if isinstance(rule, float) else 3 * every if rule == "rome3" else (3 * float(own.std())) ** 0.5
        drawn = torch.randn(samples, *own.shape, generator=seeded(seed, fact)) * deviation
        noise = states.new_zeros(samples, *states.shape)
        noise[:, where] = drawn.to(noise)
        noises.append(noise)
    return noises


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
