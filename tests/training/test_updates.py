"""Updates over methods, whole loop, under a mask: splits of a step agree, and a killed training goes on bit for bit."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import encode

from unlearn.data.task import Example, Task
from unlearn.methods.npo import NPO
from unlearn.methods.objective import MethodObjective
from unlearn.methods.pdu import PDU
from unlearn.methods.rmu import RMU
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy
from unlearn.recipe import Recipe
from unlearn.training.adamw import AdamW
from unlearn.training.gradient_surgery import GradientSurgery
from unlearn.training.loop import Setup, Watch, train
from unlearn.training.plan import plan_unlearning
from unlearn.training.reference import reference_nll
from unlearn.training.sam import SAM

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

    from unlearn.methods.gradient import GradientMethod
    from unlearn.training.checkpoint import Log
    from unlearn.training.update import Update

METHODS: list[GradientMethod] = [
    NPO(),
    PDU(bound=4.0, retain_weight=1.0, rate=0.5),
    RMU(layer=1, train=None, retain_weight=3.0),
]
UPDATES: list[Update] = [AdamW(), SAM(rho=0.1), GradientSurgery(), GradientSurgery(inner=SAM(), add_retain=True)]
RECIPE: dict[str, Any] = {"lr": 0.01, "batch_size": 4, "steps": 6, "weight_decay": 0.1, "checkpoint_seconds": 0}


@pytest.fixture
def mask(model: LlamaForCausalLM) -> Mask:
    generator = torch.Generator().manual_seed(0)
    bits = {name: torch.rand(p.shape, generator=generator) < 0.5 for name, p in model.named_parameters()}
    return Mask.of(model, {**bits, "model.layers.1.mlp.up_proj.weight": True})


def unlearned(
    method: GradientMethod,
    update: Update,
    model: LlamaForCausalLM,
    examples: list[Example],
    folder: Path,
    mask: Mask | None = None,
    watch: Watch | None = None,
    **recipe: Any,
) -> tuple[Log, dict[str, torch.Tensor]]:
    """A copy of the model after unlearning: the log and the weights."""
    task = Task("t", "all", {"forget": tuple(examples[:5]), "retain": tuple(examples[5:])})
    settings = Recipe(**RECIPE | recipe)
    plan = plan_unlearning(task, method.segments, encode, settings, 1)
    reference = Policy(copy.deepcopy(model)).requires_grad_(False).eval()
    table = reference_nll(reference, plan.rows, plan.used("forget"), 64, lambda n: None)
    objective = MethodObjective(method, plan, 1, table, reference)
    policy = Policy(copy.deepcopy(model))
    log = train(policy, objective, Setup(settings, 1, update, mask), folder, watch)
    return log, dict(policy.model.named_parameters())


@pytest.mark.parametrize("update", UPDATES, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_any_split_of_a_step_gives_the_same_weights(
    method: GradientMethod,
    update: Update,
    model: LlamaForCausalLM,
    examples: list[Example],
    mask: Mask,
    tmp_path: Path,
) -> None:
    double = model.double()
    before = {name: p.detach().clone() for name, p in double.named_parameters()}
    ends = []
    for tokens in (10_000, 40, 1):
        log, weights = unlearned(method, update, double, examples, tmp_path / f"{tokens}", mask, micro_tokens=tokens)
        ends.append((log, weights))
        for name, weight in weights.items():
            assert torch.equal(weight[~mask.bits(name)], before[name][~mask.bits(name)]), name
    assert any(not torch.equal(weight, before[name]) for name, weight in ends[0][1].items())
    for log, weights in ends[1:]:
        for row, other in zip(log.history, ends[0][0].history, strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-6)  # losses are summed in float32
        for name, weight in weights.items():
            torch.testing.assert_close(weight, ends[0][1][name], rtol=1e-6, atol=1e-8)


def test_what_method_and_update_say_is_in_the_log(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    """The multiplier with which a step was taken: the loss of that step is made of it."""
    method = PDU(bound=4.0, retain_weight=1.0, rate=0.5)
    log, _ = unlearned(method, GradientSurgery(inner=SAM()), model, examples, tmp_path)
    multiplier = 1.0
    for row in log.history:
        assert row["method/multiplier"] == pytest.approx(multiplier)
        assert -1 <= row["update/cosine"] <= 1
        assert row["loss"] == pytest.approx(row["forget"] + multiplier * (row["retain"] - 4.0), rel=1e-4)
        multiplier = max(0.0, multiplier + 0.5 * (row["retain"] - 4.0))
    plain, _ = unlearned(NPO(), AdamW(), model, examples, tmp_path / "plain")
    assert not any("/" in name for row in plain.history for name in row)


@pytest.mark.parametrize("update", UPDATES, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_a_killed_training_ends_with_the_same_weights_and_losses(
    method: GradientMethod,
    update: Update,
    model: LlamaForCausalLM,
    examples: list[Example],
    mask: Mask,
    tmp_path: Path,
) -> None:
    """The multiplier, the direction and the running mean of gradients are in the checkpoint."""
    straight, weights = unlearned(method, update, model, examples, tmp_path / "a", mask)
    count = iter(range(100))

    def die(n: int, **_: float) -> None:
        if next(count) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        unlearned(method, update, model, examples, tmp_path / "b", mask, Watch(advance=die))
    said: list[str] = []
    resumed, others = unlearned(method, update, model, examples, tmp_path / "b", mask, Watch(notify=said.append))
    assert said == ["going on from step 3 of 6"]
    assert resumed == straight
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


def test_the_multiplier_changes_once_a_step_by_the_loss_of_the_step(
    model: LlamaForCausalLM, examples: list[Example], tmp_path: Path
) -> None:
    method = PDU(bound=4.0, retain_weight=1.0, rate=0.5, warmup_steps=2)
    log, _ = unlearned(method, AdamW(), model, examples, tmp_path, micro_tokens=1)
    multiplier = 1.0
    for row in log.history:
        total = row["forget"] + multiplier * (row["retain"] - row["bound"])
        assert row["bound"] == pytest.approx(4.0)
        assert row["loss"] == pytest.approx(total, rel=1e-5, abs=1e-6)
        if row["step"] > 2:
            multiplier = max(0.0, multiplier + 0.5 * (row["retain"] - 4.0))
    assert multiplier != 1.0
