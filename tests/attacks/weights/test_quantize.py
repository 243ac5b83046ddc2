"""Quantisation of a whole model: what changes, what stays, and how far the unlearned model is from the original."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from beside import NO_REFERENCES, beside
from bigram import random_llama, setting, subject
from families import FAMILIES, family
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.weights.number_formats import Format, quantised
from unlearn.attacks.weights.quantize import Quantize
from unlearn.data.task import Question
from unlearn.models.linear import linear_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from unlearn.attacks.weights.changes import ChangedModel
    from unlearn.models.subject import Subject

SCORED = [Question("a b c", "d e"), Question("f g", "h")]


def changed(attack: Quantize, attacked: Subject) -> dict[str, dict[str, torch.Tensor]]:
    """The state of each variant."""
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def visit(changed: ChangedModel) -> None:
        assert changed.subject
        seen[changed.variant] = copy.deepcopy(changed.subject.module.state_dict())

    attack.change(attacked, setting(SCORED), 0, visit)
    return seen


def test_linear_layers_are_quantised_and_nothing_else() -> None:
    model = random_llama()
    before = copy.deepcopy(model.state_dict())
    states = changed(Quantize(("int8", "nf4")), subject(model))
    assert list(states) == ["int8", "nf4"]
    linear = {name for name, _ in linear_weights(model)}
    assert len(linear) == 3 * 7
    form: Any  # a Format
    for form, state in states.items():
        for name, weight in state.items():
            wanted = quantised(before[name], form)[0] if name in linear else before[name]
            assert torch.equal(weight, wanted)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_transposed_weights_of_gpt2_have_their_scales_by_output() -> None:
    model: Any = family("gpt2")
    weight = model.transformer.h[0].attn.c_attn.weight  # [inputs, outputs]
    state = changed(Quantize(("int8",)), subject(model))["int8"]
    torch.testing.assert_close(state["transformer.h.0.attn.c_attn.weight"], quantised(weight.T, "int8")[0].T)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "gemma"])
def test_eight_bits_hardly_change_the_logits(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[name]()).eval()
    ids = torch.randint(0, 64, (2, 10))
    plain = model(ids).logits
    found = []

    def visit(change: ChangedModel) -> None:
        assert change.subject
        found.append(change.subject.module(ids).logits)

    Quantize(("int8",)).change(subject(model), setting(SCORED), 0, visit)
    assert 0 < (found[0] - plain).norm() / plain.norm() < 0.05


def test_an_outcome_for_each_format_and_buckets_of_the_unlearned_model_alone() -> None:
    model = random_llama()
    attack = Quantize()
    found = attack.attack(subject(model, part="control"), setting(SCORED), NO_REFERENCES)
    assert [o.variant for o in found.outcomes] == ["int8", "int4", "nf4", "fp4"]
    assert all(o.self_estimate is None and o.seed == 0 and len(o.known) == 2 for o in found.outcomes)
    assert not found.tables


def test_buckets_of_a_model_moved_by_hand() -> None:
    """One weight of layer 1 goes two and a half int8 steps up: into another bucket, no other one does."""
    original = random_llama()
    model = copy.deepcopy(original)
    weight = model.model.layers[1].mlp.up_proj.weight.data
    row = int(weight.abs().argmax() // 16)
    column = int(weight[row].abs().argmin())
    step = (weight[row].abs().max() / 127).item()
    weight[row, column] += 2.5 * step
    table = (
        Quantize(("int8",)).attack(subject(model), setting(SCORED), beside(subject(original))).tables["buckets"].frame
    )
    assert table["format"].tolist() == ["int8"] * 3
    n = 2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 24  # linear weights of a layer
    assert table.set_index("layer")["moved"].to_dict() == pytest.approx({0: 0, 1: 1 / n, 2: 0})
    assert table.set_index("layer")["steps"].to_dict() == pytest.approx({0: 0, 1: 2.5 / n, 2: 0}, rel=1e-4)


def test_without_bitsandbytes_the_attack_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("unlearn.attacks.weights.bitsandbytes_layers.import_module", missing)
    with pytest.raises(Inapplicable, match="bitsandbytes is not installed"):
        Quantize(("nf4",), "bitsandbytes").attack(subject(random_llama()), setting(SCORED), NO_REFERENCES)


def test_bitsandbytes_has_no_int4() -> None:
    with pytest.raises(ValueError, match="int4"):
        Quantize(("int4",), "bitsandbytes")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("form", ["nf4", "fp4", "int8"])
def test_the_backends_agree(name: str, form: Format) -> None:
    """4 bits: to rounding. int8: bitsandbytes rounds the inputs, too."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    models: dict[str, Callable[[], Any]] = {
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
            )
        ),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=4)),
    }
    model = models[name]().eval()
    ids = torch.randint(2, 60, (2, 12))
    logits: list[torch.Tensor] = []

    def visit(change: ChangedModel) -> None:
        assert change.subject
        logits.append(change.subject.module(ids).logits.detach())

    for backend in ("simulated", "bitsandbytes"):
        Quantize((form,), backend).change(subject(model), setting(SCORED), 0, visit)
    simulated, real = logits
    plain = model(ids).logits.detach()
    assert (simulated - real).norm() < (1e-4 if form != "int8" else 0.02) * plain.norm()
    assert (real - plain).norm() > 0


def test_a_model_of_another_architecture_is_quantised_without_a_table_of_buckets() -> None:
    for original in (random_llama(layers=2), family("gpt2")):
        found = Quantize(("int8",)).attack(subject(random_llama()), setting(SCORED), beside(subject(original)))
        assert len(found.outcomes) == 1
        assert not found.tables
