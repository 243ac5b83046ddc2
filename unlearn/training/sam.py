"""Sharpness-aware minimisation of the forget side: weights around which forgetting holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from unlearn.training.adamw import AdamW
from unlearn.training.objective import FORGET, RETAIN, SIDES, Losses, Side
from unlearn.training.update import Gradient, Running, Update

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from unlearn.recipe import Recipe
    from unlearn.training.weights import Weights


@dataclass(frozen=True)
class SAM:
    """Take the forget side's gradient at theta + rho g / |g|, g its gradient at theta; the retain side's at theta.

    Foret et al. 2021, Sharpness-Aware Minimization; for unlearning Fan et al. 2025 (arXiv 2502.05374), who perturb the
    forget side alone. The weights are perturbed once per optimizer step, only where the mask lets them change, and put
    back from a saved copy. It costs one more pass over the forget rows, and a copy of the trainable weights.
    """

    version: ClassVar[int] = 1

    inner: Update = field(default_factory=AdamW)
    """What steps with the gradient."""
    rho: Annotated[float, Gt(0)] = 0.01
    """How far the weights are moved: the L2 norm over all trainable weights."""

    @property
    def sides(self) -> frozenset[Side]:
        """The forget side, whose gradient is perturbed."""
        return FORGET | self.inner.sides

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return it at work around its inner update."""
        return _Running(weights, self.inner.start(weights, recipe), self.rho)


class _Running:
    def __init__(self, weights: Weights, inner: Running, rho: float) -> None:
        self.weights, self.inner, self.rho = weights, inner, rho

    def step(self, gradient: Gradient, lr_factor: float) -> Losses:
        def sharp(only: Collection[Side] = SIDES) -> Losses:
            if "forget" not in only:
                return gradient(only)
            losses = self._perturbed(gradient)
            if "retain" not in only:
                return losses
            forget = self.weights.gradients()
            kept = gradient(RETAIN)
            self.weights.add_gradients(forget)
            return {**losses, **kept, "loss": losses["loss"] + kept["loss"]}

        return self.inner.step(sharp, lr_factor)

    def _perturbed(self, gradient: Gradient) -> Losses:
        """Leave the forget side's gradient at the perturbed weights in `.grad`, and the weights as they were."""
        import torch

        losses = gradient(FORGET)
        self.weights.mask_gradients()
        ascent = self.weights.gradients()
        norm = torch.nn.utils.get_total_norm(ascent.values())
        if not ascent or not norm > 0:
            return losses
        saved = {name: self.weights.trainable[name].detach().clone() for name in ascent}
        with torch.no_grad():
            for name, direction in ascent.items():
                self.weights.trainable[name].add_(direction * (self.rho / norm))
        try:
            return gradient(FORGET)
        finally:
            with torch.no_grad():
                for name, value in saved.items():
                    self.weights.trainable[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        return self.inner.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.inner.load(state)

    def finish(self) -> None:
        self.inner.finish()
