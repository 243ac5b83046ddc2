"""A causal trace by token and layer by the package's own code, and as it is usually written: one site at a time."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any, Literal

import torch
from bench_setup import Setup, now, passed
from torch import Tensor, nn

from unlearn.localize.mechanisms.facts import EncodedFact, encode_facts
from unlearn.localize.mechanisms.patching import Patch
from unlearn.localize.mechanisms.tracing import KINDS, Cell, subject_noise, token_patches, trace, windowed
from unlearn.models.layout import Layout, Site, layout
from unlearn.models.prompts import collate
from unlearn.models.sites import Edit, Key, at_rest, capture, edited, logits_at
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYERS, SAMPLES, WINDOW = 2, 2, 10
"""How many layers are traced, evenly spaced; draws of noise; layers in a window."""


def measure(
    overrides: Sequence[str], threads: int, path: str, off: Sequence[Literal["skips", "batches"]] = ()
) -> dict[str, Any]:
    """Seconds (wall, CPU) of one fact's trace, and the indirect effects.

    off: without skips, sites that can have no effect are restored as well; without batches, each site has a forward of
    its own, from the embeddings on, whose rows are the draws of noise.
    """
    setup = Setup.load(overrides, threads, path)
    task, prompt = setup.task, setup.experiment.model.prompt
    subject = Subject("original", setup.model, setup.tokenizer, task.prompt or prompt, 16384)
    parts = layout(setup.model)
    with at_rest(setup.model):
        (fact,) = encode_facts(subject, task, 1)
        (noise,) = subject_noise(setup.model, parts, [fact], "rome3", SAMPLES, setup.experiment.seed)
        every = all_patches(len(fact.ids), len(parts.blocks))
        effective = token_patches(fact, len(parts.blocks), WINDOW)
        patches = every if "skips" in off else {cell: patch for cell, patch in every.items() if cell in effective}
        started = now()
        if "batches" in off:
            corrupt, found = one_at_a_time(setup.model, parts, fact, noise, patches)
        else:
            run = trace(setup.model, parts, fact, noise, patches, subject.token_budget)
            corrupt, found = run.corrupt, dict(run.restored)
        seconds = passed(started, now())
    effects = [float((found[cell] - corrupt).mean()) if cell in found else 0.0 for cell in every]
    return {"seconds": {"trace": seconds}, "numbers": effects, "sites": len(patches)}


def all_patches(tokens: int, layers: int) -> dict[Cell, Patch]:
    """Each kind at every token of some layers, the last among them."""
    patches: dict[Cell, Patch] = {}
    for layer in range(layers - 1, -1, -math.ceil(layers / LAYERS)):
        for kind, site in KINDS.items():
            span = (layer,) if kind == "hidden" else windowed(layer, layers, WINDOW)
            keys = tuple((at, site) for at in span)
            patches |= {(kind, layer, token): Patch(keys, token=token) for token in range(tokens)}
    return patches


def one_at_a_time(
    model: nn.Module, parts: Layout, fact: EncodedFact, noise: Tensor, patches: Mapping[Cell, Patch]
) -> tuple[Tensor, dict[Cell, Tensor]]:
    """Return the answer's probability [S] in the noised run, and with each site restored in a run of its own."""
    keys = {key for patch in patches.values() for key in patch.sites}
    _, clean = capture(model, parts, keys, collate([fact.ids], "cpu"))
    inputs = collate([fact.ids] * len(noise), "cpu")

    def put(key: Key, token: int | None) -> tuple[Site, Edit]:
        def restore(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            parts.site(*key).view(new, len(noise))[:, token] = clean[key][:, token]
            return new

        return parts.site(*key), restore

    def run(patch: Patch) -> Tensor:
        with (
            torch.no_grad(),
            edited((parts.embed, lambda tensor: tensor + noise), *(put(key, patch.token) for key in patch.sites)),
        ):
            return logits_at(model, inputs.ids, inputs.index).softmax(-1)[:, fact.answer]

    return run(Patch(())), {cell: run(patch) for cell, patch in patches.items()}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
