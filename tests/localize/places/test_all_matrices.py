"""Nonlocalized: every matrix of the layers and nothing else."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from transformers import GPT2Config, GPT2LMHeadModel

from unlearn.localize.places.all_matrices import Nonlocalized

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_a_llama(subject: Subject, task: Task) -> None:
    located = Nonlocalized().localize(subject, task, 0)
    for name, count in located.mask.counts.items():
        wanted = re.search(r"layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.weight", name) is not None
        assert count == (subject.module.get_parameter(name).numel() if wanted else 0), name
    assert located.numbers == {"parts": 3 * 7, "parameters": 3 * (16 * 48 + 3 * 16 * 24)}


def test_biases_go_with_their_matrices(subject: Subject, task: Task) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8))
    located = Nonlocalized().localize(dataclasses.replace(subject, module=model), task, 0)
    chosen = {name for name, count in located.mask.counts.items() if count}
    assert chosen == {name for name, _ in model.named_parameters() if re.search(r"\.(attn|mlp)\.", name)}
