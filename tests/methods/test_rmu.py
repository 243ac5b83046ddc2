from __future__ import annotations

from typing import Any

import pytest
import torch
from three_rows import make_batch, tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from unlearn.methods.rmu import RMU
from unlearn.models.policy import Policy
from unlearn.runtime.errors import UserError


def states(model: LlamaForCausalLM, layer: int) -> torch.Tensor:
    """The output of a layer below the last, at every position."""
    ids = make_batch().input_ids
    found: torch.Tensor = model(input_ids=ids, output_hidden_states=True).hidden_states[layer + 1]
    return found.detach()


@pytest.mark.parametrize("positions", ["answers", "attended"])
def test_by_hand(positions: Any) -> None:
    """Rows of 7, 9 and 4 tokens after prompts of 4, 2 and 1: mean over rows of the mean over positions and units."""
    model, other = tiny_llama(0), tiny_llama(1)
    method = RMU(layer=0, forget_weight=2, retain_weight=3, coefficient=1.5, adaptive=False, positions=positions)
    policy = Policy(model)
    state = method.begin(policy, [], 7)
    loss = method.loss(policy, make_batch(), Policy(other), state)
    mine, theirs = states(model, 0), states(other, 0)
    direction = torch.rand(16, generator=torch.Generator().manual_seed(7))
    target = 1.5 * direction / direction.norm()
    start = (lambda prompt: prompt) if positions == "answers" else lambda prompt: 0
    forget = [(mine[i, start(p) : n] - target).square().mean().item() for i, (n, p) in enumerate([(7, 4), (9, 2)])]
    retain = (mine[2, start(1) : 4] - theirs[2, start(1) : 4]).square().mean().item()
    assert loss.terms["forget"].value.item() == pytest.approx(sum(forget) / 2, rel=1e-5)
    assert loss.terms["retain"].value.item() == pytest.approx(retain, rel=1e-5)
    assert loss.total.item() == pytest.approx(2 * sum(forget) / 2 + 3 * retain, rel=1e-5)


def test_an_adaptive_length_is_measured_at_the_start() -> None:
    model = tiny_llama(0)
    state = RMU(layer=0, coefficient=5).begin(Policy(model), [make_batch()], 0)
    mine = states(model, 0)
    lengths = [mine[0, 4:7].norm(dim=-1).mean(), mine[1, 2:9].norm(dim=-1).mean()]
    assert state["length"].item() == pytest.approx(5 * (lengths[0] + lengths[1]).item() / 2, rel=1e-5)
    assert state["direction"].norm().item() == pytest.approx(1.0)
    assert (state["direction"] >= 0).all()


def test_only_the_chosen_matrices_of_the_layer_and_those_below_are_trained() -> None:
    mask = RMU(layer=1, train_layers=2).places(tiny_llama(0))
    assert mask is not None
    chosen = {name for name, value in mask.tensors.items() if value is True}
    assert chosen == {f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)}
    both = RMU(layer=1, train_layers=1, train=("o", "up")).places(tiny_llama(0))
    assert both is not None
    assert {name.rpartition("layers.")[2] for name, value in both.tensors.items() if value is True} == {
        "1.self_attn.o_proj.weight",
        "1.mlp.up_proj.weight",
    }
    assert RMU(train=None).places(tiny_llama(0)) is None


def test_the_layer_of_a_model() -> None:
    assert RMU().layer_in(tiny_llama(0)) == 0  # 7 / 32 of 2
    with pytest.raises(UserError, match=r"'method\.layer' is 2, but the model's 2 layers are 0 to 1"):
        RMU(layer=2).layer_in(tiny_llama(0))
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2))
    assert RMU(layer=0).places(gpt2) is not None
    with pytest.raises(UserError, match="no such matrices"):
        RMU(layer=0, train=("gate",)).places(gpt2)


def test_retain_rows_that_weigh_nothing_are_not_read() -> None:
    assert RMU().segments == ("forget", "retain")
    assert RMU().reference == {"model"}
    assert RMU(retain_weight=0).segments == ("forget",)
    assert RMU(retain_weight=0).reference == frozenset()
