from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from unlearn.localize.places.ffn import FFN
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_the_mlps_and_nothing_else(subject: Subject, task: Task) -> None:
    located = FFN().localize(subject, task, 0)
    chosen = {name for name, value in located.mask.tensors.items() if value is True}
    assert chosen == {f"model.layers.{i}.mlp.{p}_proj.weight" for i in range(3) for p in ("gate", "up", "down")}
    assert located.numbers["selected"] == located.mask.selected == 3 * 3 * 16 * 24


def test_biases_too(subject: Subject, task: Task) -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=2, n_head=2, n_positions=8))
    mask = FFN(layers=(1,)).localize(replace(subject, module=gpt2), task, 0).mask
    expected = {f"transformer.h.1.mlp.{m}.{p}" for m in ("c_fc", "c_proj") for p in ("weight", "bias")}
    assert {name for name, value in mask.tensors.items() if value is True} == expected


def test_unknown_layers(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match="has 7: the model has layers 0 to 2"):
        FFN(layers=(0, 7)).localize(subject, task, 0)
