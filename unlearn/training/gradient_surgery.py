"""Gradient surgery: what would harm the retain side is taken out of the forget side's gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Lt

from unlearn.training.adamw import AdamW
from unlearn.training.objective import FORGET, RETAIN, SIDES, Losses, Side
from unlearn.training.update import Gradient, Running, Update

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import torch
    from torch import Tensor

    from unlearn.recipe import Recipe
    from unlearn.training.weights import Weights

_INNER, _AVERAGE = "inner.", "average."


@dataclass(frozen=True)
class GradientSurgery:
    """Step with g - min(0, <g, r> / <r, r>) r, g the forget side's gradient and r a running mean of the retain side's.

    Wang et al. 2025, GRU: Mitigating the Trade-off between Unlearning and Retention (arXiv 2503.09117). As there, the
    retain side takes no part in the step but by this projection, unless `add_retain` says so. The cosine of g and r is
    logged: what is below 0 is projected out.
    """

    version: ClassVar[int] = 1

    inner: Update = field(default_factory=AdamW)
    """What steps with the gradient."""
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Share of earlier steps in the running mean of the retain side's gradient."""
    add_retain: bool = False
    """Whether the step's own retain gradient is added after the projection."""

    @property
    def sides(self) -> frozenset[Side]:
        """Both: one is projected on the other."""
        return SIDES

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return it at work around its inner update."""
        return _Running(weights, self.inner.start(weights, recipe), self)


class _Running:
    def __init__(self, weights: Weights, inner: Running, update: GradientSurgery) -> None:
        self.weights, self.inner, self.update = weights, inner, update
        self.average: dict[str, Tensor] = {}

    def step(self, gradient: Gradient, lr_factor: float) -> Losses:
        kept = gradient(RETAIN)
        self.weights.mask_gradients()
        retain = self.weights.gradients()
        for name, value in retain.items():
            old = self.average.get(name, value)
            self.average[name] = value + self.update.smoothing * (old - value)

        def projected(only: Collection[Side] = SIDES) -> Losses:
            losses: Losses = {"loss": 0.0}
            if "forget" in only:
                losses = gradient(FORGET)
                self.weights.mask_gradients()
                losses |= self._project()
            else:
                self.weights.drop_gradients()
            if "retain" in only:
                losses = {**losses, **kept, "loss": losses["loss"] + kept["loss"]}
                if self.update.add_retain:
                    self.weights.add_gradients(retain)
            return losses

        return self.inner.step(projected, lr_factor)

    def _project(self) -> Losses:
        """Take out of the gradients what conflicts; the cosine between the sides before, where it is defined."""
        forget = self.weights.gradients()
        along, length = _dot(forget, self.average), _dot(self.average, self.average)
        if along is None or not length:
            return {}
        if along < 0:
            self.weights.add_gradients({name: value * (-along / length) for name, value in self.average.items()})
        mine = _dot(forget, forget)
        return {"update/cosine": along / math.sqrt(length * mine)} if mine else {}

    def state(self) -> dict[str, Tensor]:
        mine = {f"{_AVERAGE}{name}": value for name, value in self.average.items()}
        return mine | {f"{_INNER}{name}": value for name, value in self.inner.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.inner.load({name.removeprefix(_INNER): v for name, v in state.items() if name.startswith(_INNER)})
        for name, parameter in self.weights.trainable.items():  # in the order in which sums over them were taken
            if (value := state.get(f"{_AVERAGE}{name}")) is not None:
                self.average[name] = value.to(parameter.device)

    def finish(self) -> None:
        self.inner.finish()


def _dot(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float | None:
    """Return the inner product over the tensors that both have, None where there are none."""
    import torch

    parts = [(one[name].double() * other[name].double()).sum() for name in one if name in other]
    return torch.stack(parts).sum().item() if parts else None
