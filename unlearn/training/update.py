"""What an update is: how gradients change weights (an optimizer, and what may be wrapped around it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from unlearn.training.objective import SIDES, Losses, Side

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from unlearn.recipe import Recipe
    from unlearn.training.weights import Weights


class Gradient(Protocol):
    """The gradient of the step that is being taken."""

    def __call__(self, only: Collection[Side] = SIDES) -> Losses:
        """Fill `.grad` with the gradient of these sides' terms at the weights as they are, and return the losses.

        It is that of the whole step: all micro-batches, summed over processes, and masked (under a recipe's clip_order
        "mask_first"). Every call sees the same rows and the same random numbers, so it may be called several times.
        """
        ...


class Running(Protocol):
    """An update at work on some weights."""

    def step(self, gradient: Gradient, lr_factor: float) -> Losses:
        """Change the weights once, at `lr_factor` times the peak learning rate.

        Returns the losses with "lr" and "grad_norm" (before clipping), and what the update has to say of the step as
        "update/NAME". The innermost update clips and steps; it leaves no gradient behind.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        ...

    def finish(self) -> None:
        """Leave the weights that are the result, after the last step."""
        ...


class Update(Protocol):
    """An update: a small frozen dataclass; its YAML in conf/update holds exactly its fields."""

    version: ClassVar[int]

    @property
    def sides(self) -> frozenset[Side]:
        """Return the sides that a loss must have terms of, or the update would do nothing of its own."""
        ...

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return the update at work on these weights, with the recipe's learning rate, decay and clipping."""
        ...
