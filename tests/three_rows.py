"""A step of three rows, and a tiny Llama."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.models.batches import IGNORE, Batch, Segment


def tiny_llama(seed: int, vocabulary: int = 40) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def make_batch(vocabulary: int = 40) -> Batch:
    """Two forget rows and a retain row, of 7, 9 and 4 tokens with prompts of 4, 2 and 1."""
    torch.manual_seed(1)
    ids, position = torch.randint(3, vocabulary, (3, 9)), torch.arange(9)
    lengths, prompts = torch.tensor([7, 9, 4])[:, None], torch.tensor([4, 2, 1])[:, None]
    attended = position < lengths
    labels = torch.where(attended & (position >= prompts), ids, IGNORE)
    segments = {"forget": Segment(0, 2, 2, 3 + 7), "retain": Segment(2, 3, 1, 3)}
    return Batch(torch.where(attended, ids, 0), attended.long(), labels, segments)
