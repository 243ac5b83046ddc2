"""Mechanism localizers against published numbers: attribution patching, edges, causal tracing, block selection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from unlearn.localize.budget import Block, BlockBudget, block_weights
from unlearn.localize.mechanisms import attribution
from unlearn.localize.mechanisms.facts import EncodedFact
from unlearn.localize.mechanisms.patching import Patch, Run, run_patched
from unlearn.localize.mechanisms.tracing import site_patches, token_patches, trace, windowed
from unlearn.models.layout import Layout, layout
from unlearn.models.prompts import collate
from unlearn.models.sites import Key, at_rest, capture

if TYPE_CHECKING:
    from pathlib import Path

CLOSE: Any = {"rtol": 1e-4, "atol": 2e-5}
DIRECTIONS = ("noising", "denoising")
AP = ("ap_equal", "ap_padded")
CT = ("ct_0", "ct_1")
POOLED = {"attention": ("q", "k", "v", "z"), "mlp": ("mlp_in", "mlp_out")}


class Fixture:
    """The model, its inputs and what is expected of them."""

    def __init__(self, folder: Path) -> None:
        self.inputs: Any = json.loads((folder / "batches.json").read_text())
        self.expected: Any = json.loads((folder / "expected.json").read_text())
        self.noise = load_file(folder / "noise.safetensors")
        self.model: nn.Module = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.layout = layout(self.model)

    def pair(self, case: str, direction: str) -> tuple[list[EncodedFact], list[EncodedFact]]:
        """The run that is patched, and the one that its values come from."""
        given = self.inputs[case]
        facts = {}
        for which in ("clean_ids", "corrupt_ids"):
            facts[which] = [
                EncodedFact(tuple(row[: last + 1]), tuple(span), answer, tuple(wrong))
                for row, last, span, answer, wrong in zip(
                    given[which],
                    given["answer_pos"],
                    given["subject_ranges"],
                    given["correct"],
                    given["wrong"],
                    strict=True,
                )
            ]
        clean, corrupt = facts.values()
        return (clean, corrupt) if direction == "noising" else (corrupt, clean)


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    return Fixture(parity / "localize")


def keys(layout: Layout, site: str) -> list[Key]:
    return [(layer, site.removesuffix("_post_by_position")) for layer in range(len(layout.blocks))]


def check(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.asarray(expected, dtype=float), **CLOSE)


@pytest.mark.parametrize("points", [0, 5])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", AP)
def test_attribution_patching(fixture: Fixture, case: str, direction: str, points: int) -> None:
    expected = fixture.expected[case]
    sites: dict[str, Any] = expected[f"{'apig5' if points else 'ap'}_{direction}"]
    base, other = fixture.pair(case, direction)
    wanted = [key for site in sites for key in keys(fixture.layout, site)]
    with at_rest(fixture.model):
        found = attribution.attribute(fixture.model, fixture.layout, base, other, wanted, points)
    clean, corrupt = (found.base, found.other) if direction == "noising" else (found.other, found.base)
    check([clean.mean(), corrupt.mean()], [expected["metric_clean"], expected["metric_corrupt"]])
    for site, values in sites.items():
        scores = torch.stack([found.scores[key].sum(0) for key in keys(fixture.layout, site)]) / len(base)
        check(scores.squeeze(-1) if np.ndim(values) == 1 else scores, values)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", AP)
def test_exact_patching(fixture: Fixture, case: str, direction: str) -> None:
    base, other = fixture.pair(case, direction)
    for site, values in fixture.expected[case][f"exact_{direction}"].items():
        table = np.array(values)
        if table.ndim == 1:
            table = table[:, None]
        place = "token" if site.endswith("_by_position") else "head"
        cells = [(key, column) for key in keys(fixture.layout, site) for column in range(table.shape[1])]
        total = torch.zeros(len(cells))
        for mine, theirs in zip(base, other, strict=True):
            patches = [Patch((key,), **{place: i}) for key, i in cells if place == "head" or i < len(mine.ids)]
            kept = [place == "head" or i < len(mine.ids) for _, i in cells]
            total[kept] += attribution.exact(fixture.model, fixture.layout, mine, theirs, patches, 64)
        check(total.view(table.shape) / len(base), table)


@pytest.mark.parametrize("case", AP)
def test_edges(fixture: Fixture, case: str) -> None:
    base, other = fixture.pair(case, "noising")
    with at_rest(fixture.model):
        found = attribution.attribute_edges(fixture.model, fixture.layout, base, other)
    edges = {f"{source}->{target}": float(score.mean()) for (source, target), score in found.scores.items()}
    expected = fixture.expected[case]["eap_block_noising"]
    assert edges.keys() == expected.keys()
    check([edges[name] for name in expected], list(expected.values()))


@pytest.mark.parametrize("case", AP)
def test_pooled_scores_and_selection(fixture: Fixture, case: str) -> None:
    expected = fixture.expected[case]
    base, other = fixture.pair(case, "noising")
    wanted = [
        (layer, site) for layer in range(len(fixture.layout.blocks)) for sites in POOLED.values() for site in sites
    ]
    with at_rest(fixture.model):
        found = attribution.attribute(fixture.model, fixture.layout, base, other, wanted)
    sizes = {block: sum(weights.values()) for block, weights in block_weights(fixture.layout, fixture.model).items()}
    scores: dict[Block, float] = {}
    for kind, layer in sizes:
        sites = torch.cat([found.scores[layer, site].mean(0) for site in POOLED[kind]])
        scores[kind, layer] = BlockBudget(pooling="sum").pooled(sites.numpy(), sizes[kind, layer])
    check(list(scores.values()), [expected["layer_scores_reference_sum"][_name(block)] for block in scores])

    chosen = expected["selection"]
    counts = chosen["param_count"]
    assert sizes["mlp", 0] == counts["mlp_layer"]
    assert sizes["attention", 0] == counts["attn_layer"]
    for name, times, ranked in (
        ("budget_one_mlp", 1, scores),
        ("budget_two_mlp", 2, scores),
        ("budget_one_mlp_mlp_only", 1, {block: score for block, score in scores.items() if block[0] == "mlp"}),
    ):
        budget = BlockBudget(parameters=times * counts["mlp_layer"])
        blocks = budget.chosen(ranked, sizes, sum(p.numel() for p in fixture.model.parameters()))
        assert [_name(block) for block in blocks] == chosen[name]["selected"]
        assert sum(sizes[block] for block in blocks) == chosen[name]["params"]


def _name(block: Block) -> str:
    return f"{'attn' if block[0] == 'attention' else 'mlp'}.{block[1]}"


def _traced(fixture: Fixture, case: str) -> tuple[EncodedFact, Tensor]:
    """The prompt, and its noise at all tokens."""
    given, expected = fixture.inputs[case], fixture.expected[case]
    fact = EncodedFact(
        tuple(given["input_ids"]), tuple(given["subject_range"]), expected["answer"], (expected["foil"],)
    )
    weight: Any = fixture.layout.embeddings.weight
    noise = torch.zeros(given["n_samples"], len(fact.ids), weight.shape[1])
    noise[:, slice(*fact.entity)] = fixture.noise[given["noise_key"]]
    return fact, noise


@pytest.mark.parametrize("case", CT)
def test_causal_tracing_by_token(fixture: Fixture, case: str) -> None:
    """Every kind and window; what is skipped is expected to be the noised run's probability."""
    expected, (fact, noise) = fixture.expected[case], _traced(fixture, case)
    layers = len(fixture.layout.blocks)
    windows = sorted(int(name.removeprefix("mlp_window")) for name in expected if name.startswith("mlp_window"))
    assert windows
    for window in windows:
        patches = token_patches(fact, layers, window)
        run = trace(fixture.model, fixture.layout, fact, noise, patches, 300)
        check([run.clean, run.corrupt.mean()], [expected["p_clean"], expected["p_corrupt"]])
        for kind, name in (("hidden", "resid"), ("mlp", f"mlp_window{window}"), ("attention", f"attn_window{window}")):
            table = np.array(expected[name]["p"])
            effects = [
                [run.indirect_effect((kind, layer, t)) for t in range(table.shape[1])] for layer in range(layers)
            ]
            check(np.array(effects) + float(run.corrupt.mean()), table)


@pytest.mark.parametrize("case", CT)
def test_causal_tracing_of_embeddings_and_logits(fixture: Fixture, case: str) -> None:
    expected, (fact, noise) = fixture.expected[case], _traced(fixture, case)
    tokens = range(len(fact.ids))
    embeddings = {("embed", 0, token): Patch(((0, "embed"),), token=token) for token in tokens}
    run = trace(fixture.model, fixture.layout, fact, noise, embeddings, 100)
    check([run.restored["embed", 0, token].mean() for token in tokens], expected["embed"]["p"])

    def difference(logits: Tensor) -> Tensor:
        return logits[:, fact.answer] - logits[:, fact.foils[0]]

    layers = len(fixture.layout.blocks)
    windows = [name for name in expected if "_window" in name]
    for name in ("resid", *windows):
        part, _, width = name.partition("_window")
        sites = keys(fixture.layout, {"mlp": "mlp_out", "attn": "attn_out"}.get(part, part))
        spans = [windowed(layer, layers, int(width or 1)) for layer in range(layers)]
        patches = [Patch(tuple(sites[at] for at in span), token=token) for span in spans for token in tokens]
        _, clean = capture(fixture.model, fixture.layout, sites, collate([fact.ids], "cpu"))
        source = {key: values[0] for key, values in clean.items()}
        noised = Run(fixture.model, fixture.layout, fact.ids, noise)
        found = run_patched(noised, patches, source, difference, 500)
        check(found.mean(1).view(len(sites), -1), expected[name]["logitdiff"])


@pytest.mark.parametrize("case", CT)
def test_causal_tracing_at_all_tokens(fixture: Fixture, case: str) -> None:
    expected, (fact, noise) = fixture.expected[case], _traced(fixture, case)
    run = trace(fixture.model, fixture.layout, fact, noise, site_patches(fixture.layout), 300)
    heads, mlps = np.array(expected["allpos_head_p"]), expected["allpos_mlp_p"]
    check([[run.restored["z", *cell].mean() for cell in row] for row in _cells(heads)], heads)
    check([run.restored["mlp_out", layer, 0].mean() for layer in range(len(mlps))], mlps)
    normalised = np.array([[run.indirect_effect(("z", *cell)) for cell in row] for row in _cells(heads)])
    check(normalised / run.total_effect, expected["allpos_head_nie"])


def _cells(table: np.ndarray) -> list[list[tuple[int, int]]]:
    return [[(layer, head) for head in range(table.shape[1])] for layer in range(len(table))]
