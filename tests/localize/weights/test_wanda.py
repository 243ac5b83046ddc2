"""Wanda against its formula, written out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from unlearn.localize.weights.wanda import Wanda, highest_per_row
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def inputs(subject: Subject, localizer: Wanda, module: Any, task: Task) -> Tensor:
    """All that the module is given for the rows, one row at a time, [tokens, inputs]."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        for row in localizer.rows(subject, task, 0):
            subject.module(torch.tensor([row.ids]))
    handle.remove()
    return torch.cat(seen)


def assert_highest_per_output(weight: Tensor, selected: Tensor, x: Tensor, count: int) -> None:
    """weight, selected: [outputs, inputs]."""
    norm = x.square().mean(0).sqrt()
    for row, chosen in zip(weight.detach().abs() * norm, selected, strict=True):
        assert chosen.sum() == count
        assert row[chosen].min() >= row[~chosen].max() * (1 - 1e-4)


def test_of_each_output_the_inputs_of_largest_weight_times_activation(subject: Subject, task: Task) -> None:
    localizer = Wanda(select=0.6)
    mask = localizer.localize(subject, task, 0).mask
    linear = {
        f"{name}.weight": module
        for name, module in subject.module.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    assert len(linear) == 3 * 7
    for name, module in linear.items():
        columns = module.in_features
        count = columns - int(columns * (1 - 0.6))
        assert_highest_per_output(module.weight, mask.bits(name), inputs(subject, localizer, module, task), count)
    assert all(mask.tensors[name] is False for name in mask.shapes if name not in linear)


def test_conv1d_of_gpt2_is_the_other_way_round(subject: Subject, task: Task) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(subject.processor), n_embd=8, n_layer=2, n_head=2, n_positions=64)
    subject = replace(subject, module=GPT2LMHeadModel(config).eval())
    localizer = Wanda(select=0.3, also=(1.0,))
    located = localizer.localize(subject, task, 0)
    some, whole = located.mask, located.masks["1.0"]
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        module: Any = subject.module.get_submodule(f"transformer.h.1.{name}")
        selected = some.bits(f"transformer.h.1.{name}.weight")
        columns = module.weight.shape[0]
        x = inputs(subject, localizer, module, task)
        assert_highest_per_output(module.weight.T, selected.T, x, columns - int(columns * (1 - 0.3)))
        assert whole.tensors[f"transformer.h.1.{name}.weight"] is True
    for name in ("wte.weight", "h.1.attn.c_attn.bias", "h.1.ln_1.weight"):
        assert whole.tensors[f"transformer.{name}"] is False
    assert located.numbers["selected"] == some.selected < located.numbers["scored"] == whole.selected


@pytest.mark.parametrize(("fraction", "count"), [(0.8, 26), (0.95, 31), (0.1, 4), (0.5, 16), (1.0, 32), (1 / 32, 1)])
def test_the_count_is_rounded_up_as_in_the_released_code(fraction: float, count: int) -> None:
    """Of 32 inputs; the specification has the first three from the released code."""
    layer = nn.Linear(32, 3)
    selected = highest_per_row(layer, torch.ones(32), fraction)
    if isinstance(selected, bool):
        assert selected
        assert count == 32
    else:
        assert sum(byte.bit_count() for byte in torch.as_tensor(selected).tolist()) == 3 * count


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1))
def test_a_share_of_at_least_one_input_selects_some(inputs: int, above: float) -> None:
    """Whatever rounding does: at 1 / inputs one, and never more than there are, nor fewer than asked for."""
    layer = nn.Linear(inputs, 1, bias=False)
    for fraction in (1 / inputs, 1 / inputs + above * (1 - 1 / inputs)):
        selected = highest_per_row(layer, torch.ones(inputs), min(fraction, 1.0))
        count = inputs if selected is True else sum(byte.bit_count() for byte in torch.as_tensor(selected).tolist())
        assert max(1, math.floor(inputs * fraction * (1 - 1e-9))) <= count <= inputs


@pytest.mark.parametrize("fractions", [{"select": 0.06}, {"also": (0.06,)}])
def test_less_than_one_input_is_refused_before_any_forward(subject: Subject, fractions: Any, task: Task) -> None:
    """Of 16 and 24 inputs, one is 0.0625 of the fewer."""

    def forward(module: Any, inputs: Any) -> None:
        raise AssertionError("the model was run")

    subject.module.model.register_forward_pre_hook(forward)
    with pytest.raises(UserError, match=r"0\.06 is less than one of the 16 inputs of 'model\.layers\.0\.self_attn"):
        Wanda(**fractions).localize(subject, task, 0)


def test_what_was_asked_for_and_what_was_achieved(subject: Subject, task: Task) -> None:
    """At 0.1: 2 of 16 inputs, and 3 of the 24 of down_proj, [16, 24] in each layer."""
    numbers = Wanda(select=0.1).localize(subject, task, 0).numbers
    assert numbers["asked"] == 0.1
    assert numbers["achieved"] == numbers["selected"] / numbers["scored"] == 0.125
    assert numbers["scored"] == 3 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 24)


def test_ties_go_by_position() -> None:
    layer = nn.Linear(8, 1, bias=False)
    nn.init.ones_(layer.weight)
    selected = highest_per_row(layer, torch.tensor([1.0, 2, 1, 1, 0, 2, 1, 0]), 0.5)
    assert isinstance(selected, Tensor)
    assert selected.tolist() == [0b00100111]


def test_samples(subject: Subject, task: Task) -> None:
    assert len(Wanda().rows(subject, task, 0)) == 3
    assert len(Wanda(samples=2).rows(subject, task, 0)) == 2
    assert len({Wanda(samples=1, seed=seed).rows(subject, task, 0)[0] for seed in range(9)}) > 1


def test_a_model_without_layers(subject: Subject, task: Task) -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UserError, match="linear layers"):
        Wanda().localize(replace(subject, module=model), task, 0)
