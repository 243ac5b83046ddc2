"""A Llama of a few thousand weights and a handful of examples: enough for the loop's arithmetic, trained in seconds."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.data.task import Example


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def examples() -> list[Example]:
    return [Example((f"what{i}?",), ("abc" * (1 + i % 4) + str(i),), f"c{i // 3}") for i in range(12)]
