"""Names of parameters as transformers' own models have them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
)

from unlearn.models.parameters import TYPES, layer_of, module_type

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
PLAIN = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
GATED = {"q", "k", "v", "o", "gate", "up", "down", "norm"}

FAMILIES: dict[str, tuple[PretrainedConfig, set[str], set[str]]] = {
    "llama": (LlamaConfig(**SIZES), {"embed", "norm", "head"}, GATED),
    "gemma2": (Gemma2Config(**SIZES, head_dim=4), {"embed", "norm", "head"}, GATED),
    "qwen2": (Qwen2Config(**SIZES), {"embed", "norm", "head"}, GATED),
    "phi": (PhiConfig(**SIZES), {"embed", "norm", "head"}, GATED - {"gate"}),
    "phi3": (
        Phi3Config(**SIZES),
        {"embed", "norm", "head"},
        {"qkv", "o", "gate_up", "down", "norm"},
    ),
    "gpt_neox": (GPTNeoXConfig(**PLAIN), {"embed", "norm", "head"}, {"qkv", "o", "up", "down", "norm"}),
    "gpt2": (
        GPT2Config(vocab_size=32, n_embd=8, n_layer=2, n_head=2, n_positions=16, tie_word_embeddings=False),
        {"embed", "norm", "head"},
        {"qkv", "o", "up", "down", "norm"},
    ),
    "opt": (
        OPTConfig(
            vocab_size=32,
            hidden_size=8,
            ffn_dim=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=8,
            tie_word_embeddings=False,
        ),
        {"embed", "norm", "head"},
        {"q", "k", "v", "o", "up", "down", "norm"},
    ),
}
"""For each family a small configuration, the types outside its layers, and those inside each layer."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_its_type_and_layer(family: str) -> None:
    config, outside, inside = FAMILIES[family]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found: dict[int | None, set[str]] = {}
    for name, _ in model.named_parameters():
        found.setdefault(layer_of(name), set()).add(module_type(name))
    assert found == {None: outside, 0: inside, 1: inside}
    assert outside | inside <= set(TYPES)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_model_itself_calls_embedding_and_head(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(FAMILIES[family][0])
    kinds = {id(p): module_type(name) for name, p in model.named_parameters()}
    assert kinds[id(model.get_input_embeddings().weight)] == "embed"
    assert kinds[id(model.get_output_embeddings().weight)] == "head"


def test_what_is_not_known() -> None:
    assert module_type("model.layers.0.mixer.in_proj.weight") == "other"
    assert module_type("model.layers.3.mlp.experts.down_proj") == "expert"
    assert layer_of("model.layers.11.mlp.up_proj.weight") == 11
    assert layer_of("transformer.wte.weight") is None
