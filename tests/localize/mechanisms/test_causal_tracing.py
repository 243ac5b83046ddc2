"""Causal tracing: batches against one site at a time, what is skipped, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from families import FAMILIES, family
from helpers import RUN
from torch import Tensor, nn

from unlearn.localize.mechanisms import causal_tracing
from unlearn.localize.mechanisms import facts as facts_module
from unlearn.localize.mechanisms.causal_tracing import CausalTracing, intervals, token_groups, trace_table
from unlearn.localize.mechanisms.facts import EncodedFact, encode_facts
from unlearn.localize.mechanisms.patching import Patch
from unlearn.localize.mechanisms.tracing import (
    KINDS,
    Cell,
    Trace,
    site_patches,
    subject_noise,
    token_patches,
    trace,
    windowed,
)
from unlearn.models.layout import Layout, layout
from unlearn.models.prompts import collate
from unlearn.models.sites import capture, edited
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unlearn.data.task import Task
    from unlearn.models.subject import Subject

FACT = EncodedFact((7, 3, 60, 21, 5, 40), (2, 4), answer=11, foils=(12,))
SAMPLES = 3
EAGER = {"attn_implementation": "eager"}


def one_at_a_time(model: nn.Module, parts: Layout, noise: Tensor, patch: Patch) -> float:
    """Each draw and each site in a forward of its own, without any of what makes it fast."""
    _, clean = capture(model, parts, patch.sites, collate([FACT.ids], "cpu"))

    def add(draw: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda tensor: tensor + draw

    def put(key: tuple[int, str]) -> Callable[[Tensor], Tensor]:
        def edit(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            view = parts.site(*key).view(new, 1)
            for token in range(view.shape[1]) if patch.token is None else [patch.token]:
                for head in range(view.shape[2]) if patch.head is None else [patch.head]:
                    view[0, token, head] = clean[key][0, token, head]
            return new

        return edit

    found = []
    for draw in noise:
        edits = [(parts.embed, add(draw)), *((parts.site(*key), put(key)) for key in patch.sites)]
        with torch.no_grad(), edited(*edits):
            logits = model(input_ids=torch.tensor([FACT.ids]), use_cache=False).logits
        found.append(float(logits[0, -1].softmax(-1)[FACT.answer]))
    return float(np.mean(found))


def noised(parts: Layout) -> Tensor:
    weight: Any = parts.embeddings.weight
    width = weight.shape[1]
    noise = torch.zeros(SAMPLES, len(FACT.ids), width)
    noise[:, slice(*FACT.entity)] = torch.randn(SAMPLES, 2, width, generator=torch.Generator().manual_seed(0))
    return noise


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in FAMILIES] + [("llama", EAGER), ("gemma3", EAGER)])
def test_batches_are_as_one_site_at_a_time(name: str, options: dict[str, str]) -> None:
    """With eager attention the rows have masks of their own."""
    model = family(name, **options)
    parts = layout(model)
    noise = noised(parts)
    kinds = {**KINDS, "embed": "embed"}
    patches: dict[Cell, Patch] = {
        (kind, layer, token): Patch(tuple((at, site) for at in windowed(layer, 3, 2)), token=token)
        for kind, site in kinds.items()
        for layer, token in ((0, 2), (1, 5), (2, 3))
    }
    patches |= {cell: patch for cell, patch in site_patches(parts).items() if cell[2] in (0, 3)}
    run = trace(model, parts, FACT, noise, patches, token_budget=40)
    for cell, patch in patches.items():
        assert float(run.restored[cell].mean()) == pytest.approx(one_at_a_time(model, parts, noise, patch), abs=2e-6), (
            cell
        )
    assert float(run.corrupt.mean()) == pytest.approx(one_at_a_time(model, parts, noise, Patch(())), abs=2e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("window", [1, 2, 10])
def test_what_is_skipped_has_no_effect_and_nothing_else_is(window: int) -> None:
    model = family("llama")
    parts = layout(model)
    noise, kept = noised(parts), token_patches(FACT, 3, window)
    every: dict[Cell, Patch] = {}
    for kind, site in KINDS.items():
        for layer in range(3):
            span = [layer] if kind == "hidden" else windowed(layer, 3, window)
            every |= {(kind, layer, t): Patch(tuple((at, site) for at in span), token=t) for t in range(len(FACT.ids))}
    run = trace(model, parts, FACT, noise, every, token_budget=1000)
    assert {cell: every[cell] for cell in kept} == kept
    for cell, scores in run.restored.items():
        changed = float((scores - run.corrupt).abs().max()) > 1e-7
        assert changed == (cell in kept), cell


def test_restoring_everything_is_the_clean_run() -> None:
    """The last hidden state at the last token brings back all of the effect."""
    model = family("llama")
    parts = layout(model)
    run = trace(model, parts, FACT, noised(parts), token_patches(FACT, 3, 1), token_budget=100)
    assert run.indirect_effect(("hidden", 2, FACT.position)) == pytest.approx(run.total_effect, abs=1e-6)
    assert run.indirect_effect(("hidden", 0, 0)) == 0.0


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family("llama")
    parts = layout(model)
    patches, seen = site_patches(parts), []
    expected = trace(model, parts, FACT, noised(parts), patches, 10_000)
    forward = type(model).forward

    def small(self: nn.Module, *args: Tensor, **kwargs: Tensor) -> object:
        found = forward(self, *args, **kwargs)
        rows = found.logits.shape[1]
        if rows > 2 * SAMPLES:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append(rows)
        return found

    monkeypatch.setattr(type(model), "forward", small)
    again = trace(model, parts, FACT, noised(parts), patches, 10_000)
    for cell in patches:
        torch.testing.assert_close(again.restored[cell], expected.restored[cell])
    assert max(seen) == 2 * SAMPLES


def test_noise_is_drawn_for_each_prompt_by_itself(subject: Subject, task: Task) -> None:
    parts, facts = layout(subject.module), encode_facts(subject, task)
    noises = subject_noise(subject.module, parts, facts, "rome3", 200, seed=5)
    fewer = subject_noise(subject.module, parts, facts[1::-1], 0.5, 200, seed=5)[::-1]  # in another order
    own = subject_noise(subject.module, parts, facts, "sqrt3", 200, seed=5)
    weight: Any = parts.embeddings.weight
    every = torch.cat([weight[list(fact.ids[slice(*fact.entity)])] for fact in facts]).std().item()
    for i, (fact, noise) in enumerate(zip(facts, noises, strict=True)):
        start, stop = fact.entity
        assert not noise[:, :start].any()
        assert not noise[:, stop:].any()
        drawn = noise[:, start:stop] / (3 * every)
        assert drawn.std().item() == pytest.approx(1, rel=0.05)
        alone = weight[list(fact.ids[start:stop])].std().item()
        torch.testing.assert_close(own[i][:, start:stop], drawn * math.sqrt(3 * alone))
        if i < 2:
            torch.testing.assert_close(fewer[i][:, start:stop], drawn * 0.5)
    assert not torch.equal(noises[0][:, 5:8], noises[1][:, 5:8])


def test_groups_of_tokens_and_their_average() -> None:
    """Two prompts, by hand: an effect of 10 x token index + layer, times the prompt's number."""
    facts = [EncodedFact(tuple(range(8)), (1, 5), 0, ()), EncodedFact(tuple(range(3)), (1, 2), 0, ())]
    assert token_groups(facts[0]) == {
        "first subject": [1],
        "middle subject": [2, 3],
        "last subject": [4],
        "first after": [5],
        "middle after": [6],
        "last": [7],
    }
    assert token_groups(facts[1])["first subject"] == []
    assert token_groups(facts[1])["last subject"] == [1]
    runs = [
        Trace(
            0.9,
            torch.zeros(2),
            {
                (kind, layer, t): torch.full((2,), float(n * (10 * t + layer)))
                for kind in KINDS
                for layer in (0, 1)
                for t in range(len(fact.ids))
            },
        )
        for n, fact in enumerate(facts, start=1)
    ]
    table = trace_table(facts, [["a"] * 8, ["b"] * 3], runs, 2)
    part = table[(table["prompt"] == "average") & (table["kind"] == "mlp") & (table["layer"] == 1)].set_index(
        "token_text"
    )
    effects = part["effect"].to_dict()
    assert effects == {
        "first subject": 11.0,
        "middle subject": 26.0,
        "last subject": (41 + 22) / 2,
        "first after": 51.0,
        "middle after": 61.0,
        "last": (71 + 42) / 2,
    }
    assert (part["low"] <= part["effect"]).all()
    assert (part["effect"] <= part["high"]).all()
    one = table[(table["prompt"] == "bbb") & (table["kind"] == "hidden") & (table["layer"] == 0)]
    assert one["effect"].tolist() == [0.0, 20.0, 40.0]
    assert one["token_text"].tolist() == ["b"] * 3


def test_intervals_of_constant_columns_are_points() -> None:
    low, high = intervals(np.array([[1.0, 0.0], [1.0, 4.0], [1.0, 8.0]]))
    assert low[0] == high[0] == pytest.approx(1.0)
    assert low[1] < 4 < high[1]


@pytest.mark.parametrize("form", ["sites", "tokens"])
def test_the_localizer(subject: Subject, form: str, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.setattr(facts_module, "LEAST_EFFECT", 0.0)  # a model that has learnt nothing
    subject.module.train()
    before = {name: p.detach().clone() for name, p in subject.module.named_parameters()}
    tracing = CausalTracing(form=form, known_only=False, samples=2, window=2, max_facts=4, count=1)  # type: ignore[arg-type]
    found = tracing.localize(subject, task, 0)
    again = tracing.localize(subject, task, 0)
    assert found.mask.digest == again.mask.digest
    assert found.numbers == again.numbers
    for name, parameter in subject.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None
    assert subject.module.training
    blocks = found.tables["blocks"].frame
    assert len(blocks) == 6
    assert blocks["selected"].sum() == 1
    best = blocks.iloc[blocks["score"].abs().argmax()]
    assert best["selected"]
    assert found.mask.selected == best["parameters"]
    if form == "sites":
        sites = found.tables["sites"].frame
        mine = sites[(sites["layer"] == 1) & (sites["site"] == "z")]
        assert len(sites) == 3 * (4 + 1)
        assert len(mine) == 4
        row = blocks[(blocks["kind"] == "attention") & (blocks["layer"] == 1)]
        assert row["score"].item() == pytest.approx(mine["score"].sum())
        np.testing.assert_allclose(sites["normalised"] * found.numbers["total_effect"], sites["score"])
    else:
        trace_ = found.tables["trace"].frame
        assert trace_["prompt"].nunique() == 1 + 4


def test_facts_that_the_model_knows_are_traced(subject: Subject, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    """The first of them, as many as are wanted: found by asking, a few at a time."""
    facts = encode_facts(subject, task)
    said = [subject.module(input_ids=torch.tensor([fact.ids])).logits[0, -1].argmax().item() for fact in facts]
    true = [0, 3, 4]
    told = [
        replace(fact, answer=f" {subject.processor.decode([said[i]])}" if i in true else fact.answer)
        for i, fact in enumerate(task.facts)
    ]
    knowing = replace(task, facts=tuple(told))
    monkeypatch.setattr(causal_tracing, "TRIED", 2)
    assert CausalTracing(max_facts=9).localize(subject, knowing, 0).numbers["facts"] == 3
    found = CausalTracing(max_facts=2, form="tokens").localize(subject, knowing, 0).tables["trace"].frame
    assert list(found["prompt"].unique()) == [
        "average",
        *(subject.processor.decode(list(facts[i].ids)) for i in true[:2]),
    ]


def test_a_model_that_knows_nothing_is_refused(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match="answers none of the 6 facts"):
        CausalTracing().localize(subject, task, 0)
    with pytest.raises(UserError, match="no facts"):
        CausalTracing().check(replace(task, facts=()), RUN)


def test_a_model_without_the_facts_has_no_normalised_effects(
    subject: Subject, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    found = CausalTracing(known_only=False).localize(subject, task, 0)
    assert found.numbers["total_effect"] < 0.01
    assert "answers hardly depend on their subjects (probability" in capsys.readouterr().err
    sites = found.tables["sites"].frame
    assert sites["normalised"].isna().all()
    assert sites["score"].notna().all()
