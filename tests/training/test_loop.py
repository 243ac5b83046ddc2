from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from helpers import encode
from safetensors.torch import load_file
from trainings import fit

from unlearn.models.lora import Lora
from unlearn.models.policy import Policy
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError
from unlearn.training import checkpoint
from unlearn.training.adamw import AdamW
from unlearn.training.muon import Muon
from unlearn.training.plan import plan_training
from unlearn.training.reference import reference_nll

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from unlearn.data.task import Example
    from unlearn.training.update import Update


class Killed(Exception):
    """Stands for SIGKILL: the process is gone between two steps."""


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("update", [AdamW(), Muon()], ids=repr)
def test_a_killed_training_ends_with_the_same_weights(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path, update: Update
) -> None:
    recipe = Recipe(lr=0.01, batch_size=4, epochs=4, warmup=0.2, checkpoint_seconds=0)
    plan = plan_training(examples, encode, recipe, 3)
    whole, parts = copy.deepcopy(model), copy.deepcopy(model)
    straight = fit(whole, plan, recipe, tmp_path / "a", seed=3, update=update)

    steps = iter(range(1000))

    def die(n: int, **_: float) -> None:
        if next(steps) == 6:
            raise Killed

    with pytest.raises(Killed):
        fit(parts, plan, recipe, tmp_path / "b", seed=3, update=update, advance=die)
    fresh = copy.deepcopy(model)
    resumed = fit(fresh, plan, recipe, tmp_path / "b", seed=3, update=update)
    assert resumed.history == straight.history
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(fresh)[name]), name


@pytest.mark.parametrize("damage", ["cut", "a bit of the last tensor"])
def test_a_damaged_checkpoint_is_not_used(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path, damage: str
) -> None:
    recipe = Recipe(lr=0.01, batch_size=4, steps=4, checkpoint_seconds=0)
    plan = plan_training(examples, encode, recipe, 0)
    whole = copy.deepcopy(model)
    fit(whole, plan, recipe, tmp_path, seed=0)
    file = tmp_path / checkpoint.FILE
    content = file.read_bytes()
    file.write_bytes(content[:-50] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    said: list[str] = []
    fit(model, plan, recipe, tmp_path, seed=0, notify=said.append)
    assert "damaged" in said[0]
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(whole).items())


def test_accumulation_changes_nothing(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    """A step cut in many micro-batches has the same losses, gradient norms and, in float64, weights."""
    whole, pieces = copy.deepcopy(model).double(), copy.deepcopy(model).double()
    recipes = [Recipe(lr=0.01, batch_size=6, steps=3, micro_tokens=size) for size in (10_000, 20)]
    logs = [
        fit(m, plan_training(examples, encode, r, 0), r, tmp_path / str(r.micro_tokens), seed=0)
        for m, r in zip((whole, pieces), recipes, strict=True)
    ]
    for one, many in zip(logs[0].history, logs[1].history, strict=True):
        assert one["grad_norm"] == pytest.approx(many["grad_norm"], rel=1e-9)
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(pieces)[name], rtol=1e-7, atol=1e-9)


def test_loss_is_the_token_mean_computed_by_hand(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(lr=0.01, batch_size=12, steps=1)
    plan = plan_training(examples, encode, recipe, 0)
    total, count = 0.0, 0
    with torch.no_grad():
        for number in plan.steps[0]["rows"]:
            row = plan.rows[number]
            logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            for t in range(row.n_prompt, len(row.ids)):
                total, count = total - logp[t - 1, row.ids[t]].item(), count + 1
    log = fit(model, plan, recipe, tmp_path, seed=0)
    assert log.history[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_points_of_the_curve_come_when_they_are_due(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(lr=0.01, batch_size=4, steps=6, evaluate_every=2)
    plan = plan_training(examples, encode, recipe, 0)
    log = fit(model, plan, recipe, tmp_path, seed=0, evaluate=lambda step: {"x": step * 10.0})
    assert log.curve == [{"step": 2, "x": 20.0}, {"step": 4, "x": 40.0}]


def test_a_diverging_loss_is_one_clear_error(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    recipe = Recipe(lr=1.0, batch_size=4, steps=3)
    with torch.no_grad():
        model.model.norm.weight.fill_(math.inf)
    with pytest.raises(UserError, match=r"lower train\.lr"):
        fit(model, plan_training(examples, encode, recipe, 0), recipe, tmp_path, seed=0)


def test_reference_table_equals_the_models_own_nll(model: LlamaForCausalLM, examples: list[Example]) -> None:
    plan = plan_training(examples, encode, Recipe(lr=1, batch_size=4, epochs=1), 0)
    table = reference_nll(Policy(model), plan.rows, plan.used("retain"), 64, lambda n: None)
    assert sorted(table) == plan.used("retain")
    for number, value in table.items():
        row = plan.rows[number]
        logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        by_hand = -sum(logp[t - 1, row.ids[t]].item() for t in range(row.n_prompt, len(row.ids)))
        assert value == pytest.approx(by_hand, rel=1e-5)


def test_gradient_checkpointing_and_bf16_arithmetic(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    """Checkpointing changes memory, not numbers; bf16 arithmetic keeps float32 weights and lands nearby."""
    plain = Recipe(lr=0.01, batch_size=6, steps=3, precision="fp32")
    plan = plan_training(examples, encode, plain, 0)
    variants = {
        "plain": plain,
        "checkpointing": replace(plain, gradient_checkpointing=True),
        "bf16": replace(plain, precision="bf16"),
    }
    logs, ends = {}, {}
    for name, recipe in variants.items():
        ends[name] = copy.deepcopy(model)
        logs[name] = fit(ends[name], plan, recipe, tmp_path / name, seed=0)
    assert [row["loss"] for row in logs["checkpointing"].history] == pytest.approx(
        [row["loss"] for row in logs["plain"].history], rel=1e-6
    )
    assert all(p.dtype == torch.float32 for p in ends["bf16"].parameters())
    assert logs["bf16"].history[-1]["loss"] == pytest.approx(logs["plain"].history[-1]["loss"], rel=0.02)
    assert not torch.equal(ends["bf16"].lm_head.weight, ends["plain"].lm_head.weight)


def test_adapters_learn_the_same_with_gradient_checkpointing(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(lr=0.01, batch_size=6, steps=3)
    plan = plan_training(examples, encode, recipe, 0)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        adapted = Lora(rank=2).attach(copy.deepcopy(model))
        mine = replace(recipe, gradient_checkpointing=checkpointing)
        log = fit(adapted, plan, mine, tmp_path / str(checkpointing), seed=0)
        found.append([row["loss"] for row in log.history])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[0][-1] < found[0][0]


def test_a_training_whose_gradient_is_0_stops_at_once(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    """As where checkpointing cuts adapters off: what is trainable has no part in the loss."""
    model.requires_grad_(False)
    model.register_parameter("unused", torch.nn.Parameter(torch.ones(2)))
    model.model.norm.weight.requires_grad_(True)
    recipe = Recipe(lr=0.01, batch_size=6, steps=3)
    plan = plan_training(examples, encode, recipe, 0)
    fit(model, plan, recipe, tmp_path / "some", seed=0)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(UserError, match="gradient of all trainable weights is 0 at step 1"):
        fit(model, plan, recipe, tmp_path / "none", seed=0)


def test_frozen_layers_stay_and_cost_no_state(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    model.model.layers[0].requires_grad_(False)
    model.model.embed_tokens.requires_grad_(False)
    before = weights(model)
    recipe = Recipe(lr=0.01, batch_size=6, steps=3, weight_decay=0.1, checkpoint_seconds=0)
    fit(model, plan_training(examples, encode, recipe, 0), recipe, tmp_path, seed=0)
    for name, value in weights(model).items():
        frozen = "layers.0." in name or "embed_tokens" in name
        assert torch.equal(value, before[name]) == frozen, name
    saved = load_file(tmp_path / checkpoint.FILE)
    assert not any("layers.0." in name for name in saved)


def test_points_of_the_curve_are_made_in_eval_mode(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    recipe = Recipe(lr=0.01, batch_size=6, steps=4, evaluate_every=1)
    modes: list[bool] = []

    def evaluate(step: int) -> dict[str, float]:
        modes.append(model.training)
        return {}

    training: list[bool] = []
    plan = plan_training(examples, encode, recipe, 0)
    record = lambda kind, row: training.append(model.training) if kind == "train" else None  # noqa: E731
    fit(model, plan, recipe, tmp_path, seed=0, evaluate=evaluate, record=record)
    assert modes == [False] * 3
    assert training == [True] * 4
