from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from unlearn.models.mask import Mask
from unlearn.recipe import Recipe
from unlearn.training.objective import SIDES, Losses, Side
from unlearn.training.sam import SAM
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Collection

START = [1.0, -2.0, 0.3]
SELECTED = [True, True, False]


class Toy(nn.Module):
    """forget = 2 a^2 + b, retain = 3 b + 5 c: gradients are known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(START))


class Spied:
    """The gradient of Toy, as the loop gives it; what it was asked for, and at which weights."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.calls: list[tuple[list[str], Tensor]] = []

    def __call__(self, only: Collection[Side] = SIDES) -> Losses:
        (w,) = self.weights.trainable.values()
        self.calls.append((sorted(only), w.detach().clone()))
        self.weights.drop_gradients()
        a, b, c = w.unbind()
        values = {"forget": 2 * a * a + b, "retain": 3 * b + 5 * c}
        total = torch.stack([values[name] for name in sorted(only)]).sum()
        total.backward()
        self.weights.mask_gradients()
        return {"loss": total.item(), **{name: values[name].item() for name in sorted(only)}}


def spied(mask: bool) -> tuple[SAM, Weights, Spied]:
    model = Toy()
    weights = Weights(model, Mask.of(model, {"w": torch.tensor(SELECTED)}) if mask else None)
    return SAM(rho=0.5), weights, Spied(weights)


@pytest.mark.parametrize("mask", [False, True])
def test_the_forget_side_alone_is_perturbed_once_and_restored_bit_for_bit(mask: bool) -> None:
    update, weights, gradient = spied(mask)
    running = update.start(weights, Recipe(lr=0.1, steps=1, clip=None))
    losses = running.step(gradient, 1.0)
    (first, at), (second, moved), (third, back) = gradient.calls
    assert (first, second, third) == (["forget"], ["forget"], ["retain"])
    start = torch.tensor(START)
    assert torch.equal(at, start)
    assert torch.equal(back, start)
    along = torch.tensor([4.0, 1.0, 0.0]) / 17**0.5  # of 2 a^2 + b at a = 1
    torch.testing.assert_close(moved, start + 0.5 * along)
    assert not mask or moved[2] == start[2]
    a = moved[0].item()
    assert losses["forget"] == pytest.approx(2 * a * a + moved[1].item())
    assert losses["retain"] == pytest.approx(3 * -2.0 + 5 * 0.3)
    assert losses["loss"] == pytest.approx(losses["forget"] + losses["retain"])
    wanted = torch.tensor([4 * a, 1.0 + 3.0, 0.0 if mask else 5.0])
    assert losses["grad_norm"] == pytest.approx(wanted.norm().item())


def test_a_forget_side_without_gradient_moves_nothing() -> None:
    update, weights, gradient = spied(mask=False)
    with torch.no_grad():
        next(iter(weights.trainable.values())).copy_(torch.tensor([0.0, 1.0, 1.0]))

    def flat(only: Collection[Side] = SIDES) -> Losses:
        losses = gradient(only)
        if "forget" in only:
            for parameter in weights.trainable.values():
                parameter.grad = torch.zeros_like(parameter)
        return losses

    update.start(weights, Recipe(lr=0.1, steps=1)).step(flat, 1.0)
    assert [side for side, _ in gradient.calls] == [["forget"], ["retain"]]
    assert all(torch.isfinite(parameter).all() for parameter in weights.trainable.values())
