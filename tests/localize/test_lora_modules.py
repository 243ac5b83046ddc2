"""Adapters under a mask: on the matrices that it selects as a whole, or more than the model is selected on average."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from unlearn.localize.lora_modules import adapted
from unlearn.models.lora import Lora
from unlearn.models.mask import Mask
from unlearn.runtime.errors import UserError


def chosen(model: PreTrainedModel, mask: Mask, **lora: Any) -> set[str]:
    return set(adapted(model, mask, Lora(**lora).modules(model)))


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(config)


def test_whole_tensors_get_adapters(model: LlamaForCausalLM) -> None:
    mask = Mask.where(model, lambda name: ".1.mlp." in name or "norm" in name or "embed" in name)
    expected = {f"model.layers.1.mlp.{part}_proj" for part in ("gate", "up", "down")}
    assert chosen(model, mask) == expected  # neither norms nor embeddings are linear layers
    wrapped = Lora(rank=2).attach(model, sorted(expected))
    trainable = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert {name.partition(".lora_")[0].removeprefix("base_model.model.") for name in trainable} == expected


def test_partly_selected_matrices_need_more_than_the_average(model: LlamaForCausalLM) -> None:
    bits = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in model.named_parameters()}
    rich, poor = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"
    bits[rich][:6] = True  # 6 of 8 rows
    bits[poor][:1, 0] = True
    mask = Mask.of(model, bits)
    assert mask.share(poor) < mask.fraction < mask.share(rich)
    assert chosen(model, mask) == {rich.removesuffix(".weight")}


def test_targets_narrow_the_choice(model: LlamaForCausalLM) -> None:
    mask = Mask.where(model, lambda name: ".0." in name)
    assert chosen(model, mask, targets=("q_proj",)) == {"model.layers.0.self_attn.q_proj"}
    everything = Mask.where(model, lambda name: True)
    assert chosen(model, everything, targets=("self_attn.q_proj",)) == {  # parts of names count as peft counts them
        f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)
    }
    assert chosen(model, mask, targets=r".*\.0\..*gate_proj") == {"model.layers.0.mlp.gate_proj"}


def test_gpt2_keeps_its_matrices_in_conv1d() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2))
    mask = Mask.where(model, lambda name: "mlp.c_fc" in name)
    assert chosen(model, mask) == {"transformer.h.0.mlp.c_fc"}


def test_a_mask_without_linear_layers(model: LlamaForCausalLM) -> None:
    for mask in (Mask.where(model, lambda name: "norm" in name), Mask.where(model, lambda name: "nothing" in name)):
        with pytest.raises(UserError, match="selects no linear module"):
            chosen(model, mask)
