"""Run one prompt with tensors from another: many replacements in one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlearn.models.layout import Layout, Site
from unlearn.models.sites import Edit, Key, edited, logits_at
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from unlearn.localize.mechanisms.facts import EncodedFact


def contrast(logits: Tensor, facts: Sequence[EncodedFact]) -> Tensor:
    """Return m = logit(answer) - mean of logit(foil): [B] from the logits [B, V] where the answers are predicted."""
    pairs = zip(logits, facts, strict=True)
    metric = torch.stack([row[fact.answer] - row[list(fact.foils)].mean() for row, fact in pairs])
    assert metric.shape == (len(facts),)
    return metric


@dataclass(frozen=True)
class Patch:
    """What one run gets from another."""

    sites: tuple[Key, ...]
    """The sites that are replaced: (layer, name)."""
    head: int | None = None
    """Of which head; None: of all."""
    token: int | None = None
    """At which token; None: at all."""

    @property
    def first(self) -> int:
        """Return the lowest layer it touches; -1 for the embeddings."""
        return min((-1 if name == "embed" else layer for layer, name in self.sites), default=0)


@dataclass(frozen=True)
class Run:
    """A model's reading of one prompt."""

    model: nn.Module
    """What reads."""
    layout: Layout
    """Where its sites are."""
    ids: Sequence[int]
    """The prompt, T tokens."""
    noise: Tensor | None = None
    """Added to the embeddings, [S, T, d]; None: nothing is, and S = 1."""


def run_patched(
    run: Run,
    patches: Sequence[Patch],
    source: Mapping[Key, Tensor],
    read: Callable[[Tensor], Tensor],
    token_budget: int,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Return `read` of the last position's logits of every patched run of the prompt: [patches, S].

    read: from [rows, V] to [rows]. source: the values that are put in, [T, heads, width] by site. Patches that begin at
    the same layer share their batches, patches x S rows within the token budget, halved where memory runs out; below
    that layer their runs are all alike, so only from there on has each its own rows.
    """
    model, layout, noise = run.model, run.layout, run.noise
    if not patches:
        return torch.empty(0, 1 if noise is None else len(noise))
    device = next(iter(source.values())).device
    base = torch.tensor([list(run.ids)] * (1 if noise is None else len(noise)), device=device)  # [S, T]
    samples, width = base.shape

    def scores(chunk: list[Patch]) -> list[Tensor]:
        first, copies = chunk[0].first, len(chunk)
        rows = samples * copies  # row = patch * S + sample
        edits: list[tuple[Site, Edit]] = []
        start = base if first >= 0 else base.repeat(copies, 1)
        if noise is not None:
            added = noise.repeat(len(start) // samples, 1, 1)
            edits.append((layout.embed, lambda tensor: tensor + added))
        for key in dict.fromkeys(key for patch in chunk for key in patch.sites):
            site, values = layout.site(*key), source[key]
            edits.append((site, _put(site, values, _where(key, chunk, samples, values), rows)))
        index = torch.arange(1, rows + 1, device=device) * width - 1
        with torch.no_grad(), edited(*edits), _widened(layout, first, samples, copies):
            found = read(logits_at(model, start, index))
        assert found.shape == (rows,)
        return list(found.view(copies, samples).cpu())

    def first(i: int) -> int:
        return patches[i].first

    done: dict[int, Tensor] = {}
    for _, alike in groupby(sorted(range(len(patches)), key=first), key=first):
        order = list(alike)
        chunk = [patches[i] for i in order]
        found = map_batches(scores, chunk, lambda _: samples * width, token_budget, progress=progress)
        done |= zip(order, found, strict=True)
    return torch.stack([done[i] for i in range(len(patches))])


def _where(key: Key, chunk: Sequence[Patch], samples: int, source: Tensor) -> tuple[Tensor, ...]:
    """Return rows, tokens and heads at which the patches of a batch touch one site."""

    def only(i: int | None) -> slice:
        return slice(None) if i is None else slice(i, i + 1)

    touched = torch.zeros(len(chunk), *source.shape[:2], dtype=torch.bool)
    for i, patch in enumerate(chunk):
        touched[i, only(patch.token), only(patch.head)] = key in patch.sites
    return touched.repeat_interleave(samples, 0).to(source.device).nonzero(as_tuple=True)


def _put(site: Site, source: Tensor, where: tuple[Tensor, ...], rows: int) -> Edit:
    def put(tensor: Tensor) -> Tensor:
        new = tensor.clone(memory_format=torch.contiguous_format)
        site.view(new, rows)[where] = source[where[1:]]
        return new

    return put


@contextmanager
def _widened(layout: Layout, first: int, samples: int, copies: int) -> Iterator[None]:
    """Repeat, from block `first` on, every one of the S rows `copies` times, and with it what has a row for each."""

    def wide(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(wide, value))
        if isinstance(value, Tensor) and value.ndim > 2 and len(value) == samples:
            return value.repeat(copies, *[1] * (value.ndim - 1))
        return value

    def widen(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return wide(args), {name: wide(value) for name, value in kwargs.items()}

    last = None if samples > 1 else first + 1  # a single row of anything goes with any number of rows
    blocks = layout.blocks[first:last] if first >= 0 and copies > 1 else ()
    handles = [block.module.register_forward_pre_hook(widen, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
