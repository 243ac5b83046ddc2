"""RMU against trajectories of the code released with WMDP, and of Adaptive RMU's: two topics in turn, six steps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.methods.rmu import RMU
from unlearn.models.batches import Batch, Segment
from unlearn.models.policy import Policy
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

STEPS, TOPICS, PAD = 6, 2, 2


class Fixture:
    """The stored weights, batches and expectations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, Any] = json.loads((folder / "expected.json").read_text())["rmu"]
        self.tolerance = json.loads((folder / "expected.json").read_text())["tolerance"]
        self.tensors = load_file(folder / "rmu.safetensors")

    def policy(self, name: str, dtype: torch.dtype) -> Policy:
        options = json.loads((self.folder / "config.json").read_text()) | {"attn_implementation": "eager"}
        model: Any = LlamaForCausalLM(LlamaConfig(**options))
        model.load_state_dict(load_file(self.folder / f"{name}.safetensors"))
        return Policy(model.to(dtype).eval())

    def padded(self, step: int, name: Literal["forget", "retain"]) -> Batch:
        """One set's rows as they were padded, on the left; for the mean, padding is as good as a token."""
        ids = self.tensors[f"padded.step{step}.{name}.input_ids"]
        assert torch.equal((ids != PAD).long(), self.tensors[f"padded.step{step}.{name}.attention_mask"])
        return Batch(ids, torch.ones_like(ids), ids, {name: Segment(0, len(ids), len(ids), 1)})

    def batch(self, step: int) -> Batch:
        """The forget and the retain rows of a step, which need no padding within their set."""
        sets = {name: self.tensors[f"step{step}.{name}.input_ids"] for name in ("forget", "retain")}
        width = max(ids.shape[1] for ids in sets.values())
        ids = torch.cat([nn.functional.pad(ids, (0, width - ids.shape[1])) for ids in sets.values()])
        lengths = torch.tensor([ids.shape[1] for ids in sets.values() for _ in ids])
        mask = (torch.arange(width) < lengths[:, None]).long()
        n = len(sets["forget"])
        segments = {"forget": Segment(0, n, n, 1), "retain": Segment(n, len(ids), len(ids) - n, 1)}
        return Batch(ids, mask, torch.where(mask.bool(), ids, -100), segments)


class LeftPadded(Policy):
    """Run a batch with its padding hidden from attention, and positions counted from the first column."""

    def _run(self, batch: Batch, index: Tensor | None, padding: bool, layers: Collection[int]) -> Tensor:
        return super()._run(replace(batch, attention_mask=(batch.input_ids != PAD).long()), index, True, layers)


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    return Fixture(parity / "methods2")


class OldAdamW:
    """The AdamW that transformers had: eps is added before the bias correction."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self.parameters, self.lr, self.step = parameters, lr, 0
        self.means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def __call__(self) -> None:
        self.step += 1
        for p, (m, v) in zip(self.parameters, self.means, strict=True):
            assert p.grad is not None
            m.mul_(0.9).add_(p.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            rate = self.lr * (1 - 0.999**self.step) ** 0.5 / (1 - 0.9**self.step)
            p.addcdiv_(m, v.sqrt() + 1e-6, value=-rate)
            p.grad = None


def state_of(fixture: Fixture, method: RMU, policy: Policy, topic: int) -> dict[str, Tensor]:
    """What the method begins with on the topic's first batch, but with the stored direction."""
    state = method.begin(policy, [fixture.batch(topic)], 0)
    drawn = fixture.tensors[f"uniform_draw.topic{topic}"].flatten().double()
    return state | {"direction": drawn / drawn.norm()}


def methods_of(hyper: dict[str, Any]) -> list[RMU]:
    """The method for each topic."""
    adaptive, layers = "scale" in hyper, len(hyper["layer_ids"])
    plain = RMU(layer=hyper["layer_id"], train_layers=layers, positions="attended", adaptive=adaptive)
    return [
        replace(plain, retain_weight=hyper["alpha"][i], coefficient=hyper.get("scale", hyper["steering_coeff_list"][i]))
        for i in range(TOPICS)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["wmdp_original", "adaptive"])
def test_trajectory(fixture: Fixture, name: str, dtype: torch.dtype) -> None:
    case, double = fixture.cases[name], dtype == torch.float64
    hyper, expected = case["hyper"], case["float64" if double else "float32"]
    policy, reference = fixture.policy("model", dtype), fixture.policy("reference", dtype)
    before = {key: p.detach().clone() for key, p in policy.model.named_parameters()}
    methods = methods_of(hyper)
    weights = Weights(policy.model, methods[0].places(policy.model))
    assert sorted(weights.trainable) == sorted(expected["changed_parameters"])
    optimizer = OldAdamW(list(weights.trainable.values()), hyper["lr"])
    states: dict[int, dict[str, Tensor]] = {}
    close = 1e-6 if double else fixture.tolerance["rmu_loss_rel_float32"]
    for step in range(STEPS):
        topic = step % TOPICS
        if topic not in states:
            states[topic] = state_of(fixture, methods[topic], policy, topic)
        loss = methods[topic].loss(policy, fixture.batch(step), reference, states[topic])
        loss.total.backward()
        assert loss.terms["forget"].value.item() == pytest.approx(expected["unlearn"][step], rel=close)
        assert loss.terms["retain"].value.item() == pytest.approx(expected["retain_unweighted"][step], rel=close)
        assert loss.total.item() == pytest.approx(expected["total"][step], rel=close)
        if step == 0:
            norms = {key: p.grad.norm().item() for key, p in weights.trainable.items() if p.grad is not None}
            assert norms == pytest.approx(expected["first_grad_l2"], rel=fixture.tolerance["grad_l2_rel_float32"])
        optimizer()
    for key, parameter in policy.model.named_parameters():
        if key not in weights.trainable:
            assert torch.equal(parameter, before[key]), key
            continue
        difference = (parameter - fixture.tensors[f"{name}/{str(dtype).removeprefix('torch.')}/{key}"]).abs()
        assert difference.max().item() < (1e-5 if double else fixture.tolerance["rmu_weight_abs_float32"])
        assert difference.mean().item() < fixture.tolerance["rmu_weight_mean_abs_float32"]


def test_trajectory_of_left_padded_batches(fixture: Fixture) -> None:
    """The released code's other habit: padding on the left, whose states count in the mean, in float32 alone."""
    hyper = fixture.cases["wmdp_original"]["hyper"]
    expected = fixture.cases["wmdp_original_left_padded_float32_only"]["float32"]
    model, reference = (LeftPadded(fixture.policy(name, torch.float32).model) for name in ("model", "reference"))
    methods = methods_of(hyper)
    weights = Weights(model.model, methods[0].places(model.model))
    assert sorted(weights.trainable) == sorted(expected["changed_parameters"])
    optimizer = OldAdamW(list(weights.trainable.values()), hyper["lr"])
    close = fixture.tolerance["rmu_loss_rel_float32"]
    assert any((fixture.padded(step, "forget").input_ids == PAD).any() for step in range(STEPS))
    for step in range(STEPS):
        method = methods[step % TOPICS]
        state = state_of(fixture, method, model, step % TOPICS)
        forget = method.loss(model, fixture.padded(step, "forget"), None, state, {"forget"})
        retain = method.loss(model, fixture.padded(step, "retain"), reference, state, {"retain"})
        total = forget.total + retain.total
        total.backward()
        assert forget.terms["forget"].value.item() == pytest.approx(expected["unlearn"][step], rel=close)
        assert retain.terms["retain"].value.item() == pytest.approx(expected["retain_unweighted"][step], rel=close)
        assert total.item() == pytest.approx(expected["total"][step], rel=close)
        if step == 0:
            norms = {key: p.grad.norm().item() for key, p in weights.trainable.items() if p.grad is not None}
            assert norms == pytest.approx(expected["first_grad_l2"], rel=fixture.tolerance["grad_l2_rel_float32"])
        optimizer()
