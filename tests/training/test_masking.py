"""Training under a mask, whole loop: what is not selected keeps every bit, whatever the optimizer does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import encode
from safetensors.torch import load_file
from trainings import fit

from unlearn.models.mask import Mask
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError
from unlearn.training import checkpoint
from unlearn.training.adamw import AdamW
from unlearn.training.muon import Muon
from unlearn.training.optimizers import adamw
from unlearn.training.plan import plan_training
from unlearn.training.weights import Weights, check_unselected

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from unlearn.data.task import Example
    from unlearn.training.update import Update

WHOLE, NONE = "model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"


def half(model: LlamaForCausalLM, seed: int = 0) -> Mask:
    """A random half of every tensor, but all of WHOLE and nothing of NONE."""
    generator = torch.Generator().manual_seed(seed)
    bits: dict[str, Any] = {
        name: torch.rand(p.shape, generator=generator) < 0.5 for name, p in model.named_parameters()
    }
    return Mask.of(model, bits | {WHOLE: True, NONE: False})


def run(
    model: LlamaForCausalLM,
    mask: Mask | None,
    examples: list[Example],
    folder: Path,
    update: Update | None = None,
    **recipe: Any,
) -> Any:
    settings = Recipe(
        **{"lr": 0.01, "batch_size": 6, "steps": 4, "weight_decay": 0.1, "checkpoint_seconds": 0} | recipe
    )
    plan = plan_training(examples, encode, settings, 0)
    return fit(model, plan, settings, folder, update=update, mask=mask)


@pytest.mark.parametrize("update", [AdamW(), Muon()], ids=repr)
@pytest.mark.parametrize("clip_order", ["mask_first", "clip_first"])
@pytest.mark.parametrize("micro_tokens", [10_000, 20])
def test_unselected_weights_keep_every_bit(
    model: LlamaForCausalLM,
    examples: list[Example],
    tmp_path: Path,
    update: Update,
    clip_order: str,
    micro_tokens: int,
) -> None:
    with torch.no_grad():
        model.model.norm.weight[::2] = -0.0  # zeros, which an update by plus zero would turn
    before, mask = copy.deepcopy(model), half(model)
    run(model, mask, examples, tmp_path, update, clip_order=clip_order, micro_tokens=micro_tokens)
    now = dict(model.named_parameters())
    for name, old in before.named_parameters():
        rest = ~mask.bits(name)
        assert torch.equal(now[name][rest].view(torch.int32), old[rest].view(torch.int32)), name
    assert not torch.equal(now[WHOLE], dict(before.named_parameters())[WHOLE])
    assert check_unselected(mask, before, model) > 0.9


def test_a_tied_weight_is_counted_and_trained_once(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    mask = half(model)
    assert "lm_head.weight" not in mask.shapes
    assert mask.total == sum(p.numel() for p in model.parameters())
    run(model, mask, examples, tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_change_elsewhere_is_found(model: LlamaForCausalLM) -> None:
    after, mask = copy.deepcopy(model), half(model)
    assert check_unselected(mask, model, after) == 0
    place = tuple(int(i) for i in (~mask.bits("model.norm.weight")).nonzero()[0])
    with torch.no_grad():
        after.model.norm.weight[place] += 1e-7
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        check_unselected(mask, model, after)


def test_a_selected_change_is_counted(model: LlamaForCausalLM) -> None:
    after, mask = copy.deepcopy(model), half(model)
    with torch.no_grad():
        dict(after.named_parameters())[WHOLE].add_(1.0)
    assert check_unselected(mask, model, after) == pytest.approx(mask.counts[WHOLE] / mask.selected)


def test_what_is_not_selected_has_no_gradient_and_no_state(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    run(model, half(model), examples, tmp_path)
    saved = load_file(tmp_path / checkpoint.FILE)
    assert f"model.{NONE}" not in saved
    assert f"model.{WHOLE}" in saved
    trainable = sum(p.requires_grad for p in model.parameters())
    assert trainable == sum(1 for _ in model.parameters()) - 1
    assert sum(name.endswith(".exp_avg") for name in saved) == trainable


@pytest.mark.parametrize("order", ["mask_first", "clip_first"])
def test_the_norm_that_is_clipped(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path, order: str) -> None:
    """mask_first: that of the selected weights' gradient, here computed from an unmasked backward pass."""
    mask, untouched = half(model), copy.deepcopy(model)
    log = run(model, mask, examples, tmp_path, steps=1, batch_size=12, clip_order=order)
    recipe = Recipe(lr=0.01, batch_size=12, steps=1)
    plan = plan_training(examples, encode, recipe, 0)
    rows = [plan.rows[row] for row in plan.steps[0]["rows"]]
    count = sum(len(row.ids) - row.n_prompt for row in rows)
    for row in rows:
        logp = untouched(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        loss = -sum(logp[t - 1, row.ids[t]] for t in range(row.n_prompt, len(row.ids))) / count
        loss.backward()
    squares = 0.0
    for name, p in untouched.named_parameters():
        assert p.grad is not None
        if order == "mask_first":
            squares += p.grad[mask.bits(name)].double().square().sum().item()
        elif mask.tensors[name] is not False:  # a frozen tensor has no gradient in either order
            squares += p.grad.double().square().sum().item()
    assert log.history[0]["grad_norm"] == pytest.approx(squares**0.5, rel=1e-4)


def test_selected_weights_decay_and_others_do_not(model: LlamaForCausalLM) -> None:
    mask = half(model)
    weights = Weights(model, mask)
    optimizers = adamw(weights, weights.trainable, Recipe(lr=0.1, steps=1, weight_decay=0.5), (0.9, 0.999))
    name = "model.layers.0.mlp.down_proj.weight"
    parameter = dict(model.named_parameters())[name]
    old, bits = parameter.detach().clone(), mask.bits(name)
    weights.decay(optimizers)
    torch.testing.assert_close(parameter[bits].detach(), old[bits] * 0.95)
    assert torch.equal(parameter[~bits].detach(), old[~bits])


def test_a_full_mask_changes_nothing(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    plain, masked = copy.deepcopy(model), copy.deepcopy(model)
    run(plain, None, examples, tmp_path / "a")
    run(masked, Mask.where(model, lambda name: True), examples, tmp_path / "b")
    for (name, one), other in zip(plain.named_parameters(), masked.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_killed_masked_training_ends_with_the_same_weights(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    mask, straight, fresh = half(model), copy.deepcopy(model), copy.deepcopy(model)
    settings = Recipe(lr=0.01, batch_size=4, steps=8, weight_decay=0.1, checkpoint_seconds=0)
    plan = plan_training(examples, encode, settings, 0)
    fit(straight, plan, settings, tmp_path / "a", seed=0, mask=mask)
    count = iter(range(100))

    def die(n: int, **_: float) -> None:
        if next(count) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(model, plan, settings, tmp_path / "b", seed=0, mask=mask, advance=die)
    fit(fresh, plan, settings, tmp_path / "b", seed=0, mask=mask)
    for (name, one), other in zip(straight.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_another_mask_does_not_go_on(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    run(copy.deepcopy(model), half(model), examples, tmp_path)
    with pytest.raises(UserError, match="another mask"):
        run(copy.deepcopy(model), half(model, seed=1), examples, tmp_path)
    with pytest.raises(UserError, match="another mask"):
        run(model, None, examples, tmp_path)


def test_another_models_mask_and_an_empty_one(model: LlamaForCausalLM, examples: list[Example], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to train"):
        run(copy.deepcopy(model), Mask.where(model, lambda name: False), examples, tmp_path)
    mask = half(model)
    model.model.norm.weight = torch.nn.Parameter(torch.ones(17))
    with pytest.raises(UserError, match=r"another model: 'model\.norm\.weight' is \[16\] in the mask and \[17\]"):
        run(model, mask, examples, tmp_path)
