from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from unlearn.recipe import Recipe
from unlearn.training.gradient_surgery import GradientSurgery
from unlearn.training.objective import SIDES, Losses, Side
from unlearn.training.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Collection


class Given:
    """Gradients of two weights as they are said, for each side and step; and what the inner update then saw."""

    def __init__(self, weights: Weights, forget: list[list[float]], retain: list[list[float]]) -> None:
        self.weights, self.steps = weights, {"forget": iter(forget), "retain": iter(retain)}

    def __call__(self, only: Collection[Side] = SIDES) -> Losses:
        (side,) = only
        self.weights.drop_gradients()
        (parameter,) = self.weights.trainable.values()
        parameter.grad = torch.tensor(next(self.steps[side]))
        return {"loss": 1.0, side: 1.0}


def seen(update: GradientSurgery, forget: list[list[float]], retain: list[list[float]]) -> list[list[float]]:
    """The gradients that the step was taken with."""
    weights = Weights(nn.ParameterDict({"w": nn.Parameter(torch.zeros(2))}))
    running = update.start(weights, Recipe(lr=0.1, steps=1, clip=None))
    gradient = Given(weights, forget, retain)
    found: list[list[float]] = []
    decay = weights.decay

    def look(optimizers: object) -> None:
        found.append(weights.gradients()["w"].tolist())
        decay([])

    weights.decay = look  # type: ignore[method-assign]
    for _ in forget:
        assert running.step(gradient, 1.0)["loss"] == 2.0
    return found


def test_what_conflicts_is_projected_out_and_what_does_not_stays() -> None:
    update = GradientSurgery(smoothing=0.0)
    assert seen(update, [[-1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]) == [[0.0, 1.0], [1.0, 1.0]]


def test_the_cosine_between_the_sides_is_told() -> None:
    """Before the projection; none where a side has no gradient."""
    weights = Weights(nn.ParameterDict({"w": nn.Parameter(torch.zeros(2))}))
    running = GradientSurgery(smoothing=0.0).start(weights, Recipe(lr=0.1, steps=1, clip=None))
    gradient = Given(weights, [[-1.0, 1.0], [3.0, 4.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = [running.step(gradient, 1.0).get("update/cosine") for _ in range(3)]
    assert found == [pytest.approx(-(0.5**0.5)), pytest.approx(0.8), None]


def test_the_step_s_own_retain_gradient_is_added_where_wanted() -> None:
    assert seen(GradientSurgery(smoothing=0.0, add_retain=True), [[-1.0, 1.0]], [[2.0, 0.0]]) == [[2.0, 1.0]]


def test_the_retain_gradient_is_a_running_mean() -> None:
    """r = 0.8 new + 0.2 old: at the second step it is [0.2, 0.8] times 5."""
    _, second = seen(GradientSurgery(smoothing=0.2), [[1.0, 1.0], [-1.0, 0.0]], [[5.0, 0.0], [0.0, 5.0]])
    r = torch.tensor([1.0, 4.0])
    g = torch.tensor([-1.0, 0.0])
    assert second == pytest.approx((g - (g @ r) / (r @ r) * r).tolist())
