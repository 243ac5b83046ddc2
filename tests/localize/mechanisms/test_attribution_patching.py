"""Attribution patching and edges: identities, finite differences, and what the localizers make of them."""

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

from unlearn.localize.mechanisms import attribution
from unlearn.localize.mechanisms.attribution import attribute, attribute_edges, exact
from unlearn.localize.mechanisms.attribution_patching import SITES, AttributionPatching
from unlearn.localize.mechanisms.edge_attribution import EdgeAttribution
from unlearn.localize.mechanisms.facts import EncodedFact
from unlearn.localize.mechanisms.patching import Patch, contrast
from unlearn.models.layout import Layout, layout
from unlearn.models.sites import Key, at_rest
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject

BASE = [EncodedFact((7, 3, 60, 21, 5, 40), (2, 4), 11, (12, 13)), EncodedFact((9, 33, 8, 1), (1, 2), 20, (4,))]
OTHER = [replace(BASE[0], ids=(7, 3, 50, 31, 5, 40)), replace(BASE[1], ids=(9, 44, 8, 1))]
NAMES = [name for name in FAMILIES if name != "mixtral"]  # experts are chosen: effects are not smooth


@pytest.fixture(params=NAMES)
def parts(request: pytest.FixtureRequest) -> tuple[nn.Module, Layout]:
    model = family(request.param).double()
    return model, layout(model)


def keys(parts: Layout, *sites: str) -> list[Key]:
    return [(layer, site) for layer in range(len(parts.blocks)) for site in sites]


def test_identities(parts: tuple[nn.Module, Layout]) -> None:
    """Heads add up to attention; the residual before the subject and, last, beside the answer, matters nothing."""
    model, where = parts
    with at_rest(model):
        found = attribute(model, where, BASE, OTHER, keys(where, *SITES, "resid"))
    for layer, block in enumerate(where.blocks):
        if block.linear:
            torch.testing.assert_close(found.scores[layer, "z"].sum(1), found.scores[layer, "attn_out"].squeeze(1))
        resid = found.scores[layer, "resid"]
        assert not resid[0, :2].any()
        assert not resid[1, :1].any()
        assert not resid[1, 4:].any()
    last = found.scores[len(where.blocks) - 1, "resid"]
    assert not last[0, :5].any()
    assert last[0, 5] != 0
    assert not last[1, :3].any()
    assert last[1, 3] != 0


def test_edges_add_up_to_nodes(parts: tuple[nn.Module, Layout]) -> None:
    model, where = parts
    with at_rest(model):
        edges = attribute_edges(model, where, BASE, OTHER)
        nodes = attribute(model, where, BASE, OTHER, keys(where, "z", "attn_out", "mlp_out"))
    torch.testing.assert_close(edges.base, nodes.base)
    torch.testing.assert_close(edges.other, nodes.other)
    sums: dict[str, Tensor] = {}
    for (source, _), score in edges.scores.items():
        sums[source] = sums.get(source, torch.zeros(2, 1)) + score
    for layer, block in enumerate(where.blocks):
        torch.testing.assert_close(sums[f"mlp.{layer}"], nodes.scores[layer, "mlp_out"])
        heads = [f"head.{layer}.{head}" for head in range(block.heads)] if block.linear else [f"attn.{layer}"]
        site = "z" if block.linear else "attn_out"
        torch.testing.assert_close(torch.cat([sums[name] for name in heads], 1), nodes.scores[layer, site])
    blocks = range(len(where.blocks))
    wrong = {(f"mlp.{a}", f"attn.{b}") for a in blocks for b in blocks if b <= a}
    parallel = {(f"head.{n}.0", f"mlp.{n}") for n in blocks if where.blocks[n].parallel}
    assert not edges.scores.keys() & (wrong | parallel)
    assert {("embed", "logits"), ("mlp.0", "attn.1"), ("mlp.1", "mlp.2"), ("mlp.2", "logits")} <= edges.scores.keys()


def test_estimates_are_exact_for_small_differences(parts: tuple[nn.Module, Layout]) -> None:
    """With two embeddings that hardly differ, what brute force finds is what the gradient says."""
    model, where = parts
    with torch.no_grad():
        table: Any = where.embeddings.weight
        for mine, theirs in ((60, 50), (21, 31), (33, 44)):
            table[theirs] = table[mine] + 2e-4 * torch.randn(table.shape[1], dtype=table.dtype)
    with at_rest(model):
        found = attribute(model, where, BASE, OTHER, keys(where, *SITES))
    cells = [(key, head) for key, score in found.scores.items() for head in range(score.shape[1])]
    patches = [Patch((key,), head=head) for key, head in cells]
    for i, (base, other) in enumerate(zip(BASE, OTHER, strict=True)):
        effects = exact(model, where, base, other, patches, 100)
        estimates = torch.stack([found.scores[key][i, head] for key, head in cells])
        torch.testing.assert_close(estimates, effects, rtol=0, atol=0.03 * float(effects.abs().max()))


def test_integrated_gradients_are_complete() -> None:
    """Those of the embeddings add up to the difference of the metric; the plain gradient does not."""
    model = family("llama").double()
    where = layout(model)
    with at_rest(model):
        found, plain = (attribute(model, where, BASE, OTHER, [(0, "embed")], points) for points in (200, 0))
    gap = found.other - found.base
    torch.testing.assert_close(found.scores[0, "embed"].squeeze(1), gap, rtol=1e-3, atol=0)
    assert ((plain.scores[0, "embed"].squeeze(1) - gap).abs() > 0.05 * gap.abs()).all()
    torch.testing.assert_close((plain.base, plain.other), (found.base, found.other))


def test_padding_and_company_change_nothing() -> None:
    model = family("gpt_neox").double()
    where = layout(model)
    with at_rest(model):
        both = attribute(model, where, BASE, OTHER, keys(where, *SITES))
        for i in range(2):
            alone = attribute(model, where, BASE[i : i + 1], OTHER[i : i + 1], keys(where, *SITES))
            for key, score in alone.scores.items():
                torch.testing.assert_close(both.scores[key][i : i + 1], score)


def test_the_contrast_is_of_each_prompts_own_tokens() -> None:
    logits = torch.arange(40.0).view(2, 20).square()
    facts = [EncodedFact((1,), (0, 1), 3, (5, 7)), EncodedFact((1,), (0, 1), 0, (1,))]
    assert contrast(logits, facts).tolist() == [9 - (25 + 49) / 2, 400 - 441]


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_the_localizer(subject: Subject, direction: str, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.setattr(attribution, "LEAST_GAP", -math.inf)  # a model that has learnt nothing
    subject.module.lm_head.weight.requires_grad_(False)
    options = {"direction": direction, "max_facts": 5, "exact": 0.2, "select": None, "count": 2}
    found = AttributionPatching(**options).localize(subject, task, 0)  # type: ignore[arg-type]
    flags = {name for name, p in subject.module.named_parameters() if not p.requires_grad}
    assert flags == {"lm_head.weight"}
    assert all(p.grad is None for p in subject.module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in subject.module.modules())
    table = found.tables["sites"].frame
    assert len(table) == 3 * (4 + 2 + 2 + 4 + 1 + 1 + 1)
    assert found.numbers["facts"] == 5
    checked = table["exact"].notna()
    assert checked.sum() == 9
    assert table["score"][checked].abs().min() >= table["score"][~checked].abs().max()
    np.testing.assert_allclose(table["normalised"] * found.numbers["metric_gap"], table["score"], rtol=1e-5)
    last = table[(table["site"] == "mlp_out") & (table["layer"] == 2)]
    blocks = found.tables["blocks"].frame.set_index(["kind", "layer"])
    mlp = table[table["site"].isin(["mlp_in", "mlp_out"]) & (table["layer"] == 2)]
    assert len(last) == 1
    assert blocks.loc[("mlp", 2), "score"] == pytest.approx(mlp["score"].sum())
    assert found.mask.selected == blocks["parameters"][blocks["selected"]].sum()


def test_batches_do_not_change_the_scores(subject: Subject, task: Task) -> None:
    one, many = (
        AttributionPatching(exact=0).localize(replace(subject, token_budget=budget), task, 0).tables["sites"].frame
        for budget in (16, 10**5)
    )
    np.testing.assert_allclose(one["score"], many["score"], rtol=1e-4, atol=1e-5)
    assert one["exact"].isna().all()


def test_the_edge_localizer(subject: Subject, task: Task) -> None:
    found = EdgeAttribution(count=2, max_facts=3).localize(subject, task, 0)
    edges, blocks = found.tables["edges"].frame, found.tables["blocks"].frame.set_index(["kind", "layer"])
    heads = edges[edges["source"].str.startswith("head.1.")]
    assert blocks.loc[("attention", 1), "score"] == pytest.approx(heads["score"].pow(2).mean() ** 0.5)
    assert blocks["selected"].sum() == 2
    assert len(blocks) == 6


def test_facts_that_nothing_tells_apart_are_refused(
    subject: Subject, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    same = tuple(replace(fact, foils=(fact.answer,)) for fact in task.facts)
    for localizer in (AttributionPatching(), EdgeAttribution()):
        with pytest.raises(UserError, match="nothing tells them apart"):
            localizer.localize(subject, replace(task, facts=same), 0)
        with pytest.raises(UserError, match="wrong answers"):
            localizer.check(replace(task, facts=()), RUN)
    with torch.no_grad():
        subject.module.lm_head.weight.zero_()
    for localizer, table in (
        (AttributionPatching(exact=0, max_facts=2), "sites"),
        (EdgeAttribution(max_facts=2), "edges"),
    ):
        found = localizer.localize(subject, task, 0)
        assert "hardly depend on their subjects" in capsys.readouterr().err
        assert found.tables[table].frame["normalised"].isna().all()
        assert found.tables[table].frame["score"].notna().all()
