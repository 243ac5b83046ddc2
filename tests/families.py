"""A tiny random model of every architecture that the layout is meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES: dict[str, Any] = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
WIDE = {**SIZES, **HEADS, "head_dim": 6}  # heads x width is not the hidden size
GPT2: dict[str, Any] = {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 4}
OPT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "ffn_dim": 24,
    "num_hidden_layers": 3,
    "word_embed_proj_dim": 16,
}

FAMILIES: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **HEADS),
    "mistral": lambda: transformers.MistralConfig(**SIZES, **HEADS, sliding_window=3),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, **HEADS),
    "qwen3": lambda: transformers.Qwen3Config(**WIDE),
    "gemma": lambda: transformers.GemmaConfig(**WIDE),
    "gemma2": lambda: transformers.Gemma2Config(**WIDE, sliding_window=3, final_logit_softcapping=None),
    "gemma3": lambda: transformers.Gemma3TextConfig(**WIDE, sliding_window=3),
    "phi": lambda: transformers.PhiConfig(**SIZES, **HEADS),
    "phi3": lambda: transformers.Phi3Config(**SIZES, **HEADS, pad_token_id=0),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES, num_attention_heads=4),
    "gpt_neox sequential": lambda: transformers.GPTNeoXConfig(
        **SIZES, num_attention_heads=4, use_parallel_residual=False
    ),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gptj": lambda: transformers.GPTJConfig(**GPT2, rotary_dim=2),
    "opt": lambda: transformers.OPTConfig(**OPT, num_attention_heads=4),
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, **HEADS, num_local_experts=5),
}


def family(name: str, **options: str) -> PreTrainedModel:
    """With weights large enough that inputs matter; options of from_config, as attn_implementation."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(FAMILIES[name](), **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model
