"""What an attack costs, counted by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from bigram import random_llama
from families import family

from unlearn.attacks.setting.effort import Effort
from unlearn.models.lora import Lora
from unlearn.models.projection import projection_at
from unlearn.models.sites import at_rest

IDS = torch.arange(2, 12)[None]  # ten tokens
LAYER = 2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 24  # q and o, k and v (of one head in two), the MLP
HEAD = 18 * 16
N = 3 * LAYER + HEAD


def test_two_operations_a_weight_and_token_forward() -> None:
    model = random_llama()
    with Effort() as effort, torch.no_grad():
        model(IDS)
        copy.deepcopy(model)(input_ids=IDS[:, :4])
        random_llama(layers=1)(IDS)  # another model counts, too
    assert effort.gflop == pytest.approx(2e-9 * (14 * N + 10 * (LAYER + HEAD)))
    with torch.no_grad():
        model(IDS)
    assert effort.gflop == pytest.approx(2e-9 * (14 * N + 10 * (LAYER + HEAD)))


def test_the_vocabulary_projection_counts_where_it_is_made() -> None:
    model = random_llama()
    with Effort() as effort, torch.no_grad(), projection_at(model, torch.tensor([9])):
        model(IDS)
    assert effort.gflop == pytest.approx(2e-9 * (10 * 3 * LAYER + HEAD))


def test_six_where_weights_are_trained_and_four_where_inputs_are() -> None:
    model = random_llama()
    with Effort() as effort:
        model(IDS).logits.sum().backward()
    assert effort.gflop == pytest.approx(6e-9 * 10 * N)
    with Effort() as effort, at_rest(model):
        given = model.get_input_embeddings()(IDS).detach().requires_grad_()
        model(inputs_embeds=given).logits.sum().backward()
    assert effort.gflop == pytest.approx(4e-9 * 10 * N)


def test_adapters_cost_little_more_than_an_input_gradient() -> None:
    """Those of rank 2 at the last layer's MLP output, 24 to 16: gradients flow through it, and through the head."""
    model = random_llama()
    Lora(rank=2, targets=("layers.2.mlp.down_proj",)).attach(model)
    with Effort() as effort:
        model(IDS).logits.sum().backward()
    a, b = 2 * 24, 2 * 16  # nothing below A is trained
    assert effort.gflop == pytest.approx(2e-9 * 10 * (N + 2 * a + 3 * b + HEAD))


def test_nothing_is_counted_any_more_after_an_error() -> None:
    forward = torch.nn.Linear.forward
    with pytest.raises(ZeroDivisionError), Effort():
        raise ZeroDivisionError
    assert torch.nn.Linear.forward is forward


def test_the_transposed_layers_of_gpt2() -> None:
    model = family("gpt2")
    with Effort() as effort, torch.no_grad():
        model(IDS)
    assert effort.gflop == pytest.approx(2e-9 * 10 * (3 * (3 + 1 + 4 + 4) * 16 * 16 + 64 * 16))
