"""Trainings in bfloat16: what is rounded, and how much moves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from helpers import encode
from trainings import fit

from unlearn.models.mask import Mask
from unlearn.recipe import Recipe
from unlearn.training.half_adamw import HalfAdamW
from unlearn.training.plan import plan_training
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from unlearn.data.task import Example


def test_moments_are_those_of_float32() -> None:
    """Of a constant gradient they are g (1 - beta1^t) and g^2 (1 - beta2^t), not rounded."""
    g = 2.0**-9
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = HalfAdamW([{"params": [weight]}], lr=1e-3, betas=(0.9, 0.999))
    for _ in range(50):
        weight.grad = torch.full_like(weight, g)
        optimizer.step()
    state = optimizer.state[weight]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
    assert state["exp_avg"].tolist() == pytest.approx([g * (1 - 0.9**50)] * 3, rel=1e-5)
    assert state["exp_avg_sq"].tolist() == pytest.approx([g**2 * (1 - 0.999**50)] * 3, rel=1e-5)


def test_steps_are_those_of_float32_rounded_once_each() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(40).bfloat16())
    exact = torch.nn.Parameter(weight.detach().float())
    betas = (0.8, 0.9)
    half = HalfAdamW([{"params": [weight], "weight_decay": 0.1}], lr=0.05, betas=betas)
    full = torch.optim.AdamW([{"params": [exact], "weight_decay": 0.1}], lr=0.05, betas=betas, fused=True)
    for _ in range(20):
        weight.grad = torch.randn(40).bfloat16()
        exact.grad = weight.grad.float()
        half.step()
        full.step()
        exact.data = exact.data.bfloat16().float()
        assert torch.equal(weight.float(), exact)


class Killed(Exception):
    """Stands for SIGKILL."""


def test_a_killed_training_in_bfloat16_ends_with_the_same_weights(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(lr=0.01, batch_size=4, steps=8, checkpoint_seconds=0, weights="bfloat16")
    plan = plan_training(examples, encode, recipe, 3)
    whole, parts, fresh = (copy.deepcopy(model).bfloat16() for _ in range(3))
    fit(whole, plan, recipe, tmp_path / "a", seed=3)
    steps = iter(range(1000))

    def die(n: int, **_: float) -> None:
        if next(steps) == 4:
            raise Killed

    with pytest.raises(Killed):
        fit(parts, plan, recipe, tmp_path / "b", seed=3, advance=die)
    fit(fresh, plan, recipe, tmp_path / "b", seed=3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), fresh.parameters(), strict=True))


def test_that_hardly_anything_moved_is_told(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    for lr, few in ((1e-7, True), (0.01, False)):
        said: list[str] = []
        recipe = Recipe(lr=lr, batch_size=4, steps=3, weights="bfloat16", schedule="constant")
        plan = plan_training(examples, encode, recipe, 0)
        fit(copy.deepcopy(model).bfloat16(), plan, recipe, tmp_path / str(lr), notify=said.append)
        assert any("weights moved at all" in line for line in said) == few
        said.clear()
        fit(copy.deepcopy(model), plan, recipe, tmp_path / f"{lr} full", notify=said.append)  # in float32 all do
        assert not said


def test_what_moved_is_counted_under_a_mask(model: LlamaForCausalLM) -> None:
    model = model.bfloat16()
    name, weight = next((n, p) for n, p in model.named_parameters() if p.ndim == 2)
    chosen = torch.zeros(weight.shape, dtype=torch.bool)
    chosen[0] = True
    weights = Weights(model, Mask.of(model, {name: chosen}))
    before = weights.held()
    assert [*before] == [name]
    with torch.no_grad():
        weight[0, :2] += 1
    assert weights.moved(before) == (2, weight.shape[1])
