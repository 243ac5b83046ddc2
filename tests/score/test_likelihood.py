from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from unlearn.data.prompt import Encoded
from unlearn.score import likelihood
from unlearn.score.likelihood import TREE_ATTENTION, TokenStats, Tree, likelihoods

VOCABULARY = 61
PAD = 0
OTHERS = ("bloom", "opt")  # not known to take tree attention


def tiny(model_type: str, **options: object) -> PreTrainedModel:
    """A random two-layer model of that architecture, with weights large enough for far from uniform predictions."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}
    if model_type not in ("gpt2", "bloom"):
        sizes["intermediate_size" if model_type != "opt" else "ffn_dim"] = 64
    if model_type not in ("gpt2", "gpt_neox", "bloom", "opt"):
        sizes["num_key_value_heads"] = 2
    if model_type.startswith("gemma"):
        sizes["head_dim"] = 8
    if model_type == "opt":
        sizes["word_embed_proj_dim"] = 32
    special = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(model_type, **sizes, **special, max_position_embeddings=64, **options)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def groups(seed: int = 0) -> list[list[Encoded]]:
    """Probes with one to five candidates that share their prompts and, some of them, more; prompts hold the pad id."""
    rng = np.random.default_rng(seed)
    made = []
    for candidates in (1, 3, 5, 2):
        prompt = [3, *rng.integers(0, VOCABULARY, rng.integers(2, 9)), PAD, 4]
        common = [*rng.integers(0, VOCABULARY, 3)]
        endings = [[*rng.integers(0, VOCABULARY, rng.integers(1, 6)), 2] for _ in range(candidates)]
        answers = [(common if i else []) + ending for i, ending in enumerate(endings)]
        made.append([Encoded((*map(int, prompt + answer),), len(prompt)) for answer in answers])
    return made


@torch.no_grad()
def one_by_one(model: PreTrainedModel, candidate: Encoded, mask_pad: bool = False) -> TokenStats:
    """The definition: the whole model on one row alone, in double precision from the logits on."""
    ids = torch.tensor([candidate.ids])
    mask = {"attention_mask": (ids != PAD).long()} if mask_pad else {}
    log_p = model(input_ids=ids, **mask).logits[0, candidate.n_prompt - 1 : -1].double().log_softmax(-1)
    labels = ids[0, candidate.n_prompt :]
    mean = (log_p.exp() * log_p).sum(-1)
    var = (log_p.exp() * log_p**2).sum(-1) - mean**2
    logp = log_p[torch.arange(len(labels)), labels]
    return TokenStats(*(x.numpy() for x in (logp, log_p.argmax(-1) == labels, mean, var)))


def check(
    model: PreTrainedModel, scored: list[list[TokenStats]], asked: list[list[Encoded]], mask_pad: bool = False
) -> None:
    assert [len(group) for group in scored] == [len(group) for group in asked]
    for stats, candidate in zip(chain(*scored), chain(*asked), strict=True):
        expected = one_by_one(model, candidate, mask_pad)
        for name in ("logp", "mean", "var"):
            np.testing.assert_allclose(getattr(stats, name), getattr(expected, name), rtol=2e-4, atol=2e-4)
        assert (stats.hit == expected.hit).all()


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("model_type", [*TREE_ATTENTION, *OTHERS])
def test_equals_rows_one_by_one(model_type: str, share_prefix: bool) -> None:
    model, asked = tiny(model_type), groups()
    assert likelihood._takes_trees(model, 20) == (model_type in TREE_ATTENTION)
    check(model, likelihoods(model, asked, PAD, 200, share_prefix), asked)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2"])
def test_eager_attention_takes_the_mask_too(model_type: str) -> None:
    model, asked = tiny(model_type, attn_implementation="eager"), groups()
    check(model, likelihoods(model, asked, PAD, 1000), asked)


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom"])
def test_mask_pad_hides_pad_tokens_inside_the_text(model_type: str, share_prefix: bool) -> None:
    model, asked = tiny(model_type), groups()
    masked = likelihoods(model, asked, PAD, 1000, share_prefix, mask_pad=True)
    check(model, masked, asked, mask_pad=True)
    seen = likelihoods(model, asked, PAD, 1000, share_prefix)
    assert any(np.abs(a.logp - b.logp).max() > 1e-2 for a, b in zip(chain(*masked), chain(*seen), strict=True))


def test_a_short_sliding_window_means_plain_rows() -> None:
    model, asked = tiny("mistral", sliding_window=4), groups()
    assert not likelihood._takes_trees(model, 5)
    assert likelihood._takes_trees(model, 4)
    check(model, likelihoods(model, asked, PAD, 1000), asked)


def test_budgets_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = tiny("llama"), groups()
    monkeypatch.setattr(likelihood, "LOGITS", 10 * VOCABULARY)
    monkeypatch.setattr(likelihood, "CHUNK_CPU", 3 * VOCABULARY)
    for budget in (1, 50, 10_000):
        check(model, likelihoods(model, asked, PAD, budget), asked)


def test_progress_counts_all_rows() -> None:
    done: list[int] = []
    likelihoods(tiny("llama"), groups(), PAD, 30, progress=done.append)
    assert sum(done) == 4
    assert len(done) > 1


def test_no_probes() -> None:
    assert likelihoods(tiny("llama"), [], PAD, 100) == []


CANDIDATES = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=6), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(CANDIDATES)
def test_tree_holds_each_common_beginning_once(candidates: list[list[int]]) -> None:
    tree = Tree.of([Encoded(tuple(ids), 1) for ids in candidates])
    prefixes = {tuple(ids[: i + 1]) for ids in candidates for i in range(len(ids))}
    assert len(tree.ids) == len(prefixes)
    for ids, path, predictors, labels in zip(candidates, tree.paths, tree.predictors, tree.labels, strict=True):
        assert tree.ids[path].tolist() == ids
        assert tree.positions[path].tolist() == list(range(len(ids)))
        assert tree.ids[predictors].tolist() == ids[:-1]
        assert labels.tolist() == ids[1:]


@settings(max_examples=100, deadline=None)
@given(CANDIDATES)
def test_tree_nodes_see_their_own_beginning_only(candidates: list[list[int]]) -> None:
    tree = Tree.of([Encoded(tuple(ids), 1) for ids in candidates])
    seen = tree.visible(len(tree.ids) + 2)
    for ids, path in zip(candidates, tree.paths, strict=True):
        for depth, node in enumerate(path):
            assert sorted(np.flatnonzero(seen[node])) == sorted(path[: depth + 1])
            assert ids[: depth + 1] == tree.ids[path[: depth + 1]].tolist()
    assert not seen[len(tree.ids) :].any()


def test_half_precision() -> None:
    """bfloat16 keeps 8 bits, so numbers agree loosely; what matters is that the mask has the model's type."""
    model: Any = tiny("llama")
    model, asked = model.to(torch.bfloat16), groups()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25)
    for a, b in zip(*(chain(*likelihoods(model, asked, PAD, 1000, share)) for share in (True, False)), strict=True):
        assert a.logp.dtype == np.float32
        np.testing.assert_allclose(a.logp, b.logp, atol=0.05)


def test_a_model_with_adapters() -> None:
    from peft import LoraConfig, get_peft_model

    base, asked = tiny("llama"), groups()
    model: Any = get_peft_model(base, LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    assert likelihood._takes_trees(model, 20)
    check(model, likelihoods(model, asked, PAD, 1000), asked)
