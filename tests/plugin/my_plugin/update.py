"""An update: how gradients change weights. This one is an optimizer of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Lt

from unlearn.training.objective import Side

if TYPE_CHECKING:
    from unlearn.recipe import Recipe
    from unlearn.training.update import Running
    from unlearn.training.weights import Weights


@dataclass(frozen=True)
class Momentum:
    """Gradient descent with momentum."""

    version: ClassVar[int] = 1
    sides: ClassVar[frozenset[Side]] = frozenset()

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Share of the last step that is taken again."""

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return it over all trainable weights; clipping, mask and schedule are as for any optimizer."""
        import torch

        from unlearn.training.optimizers import Optimizers

        optimizer = torch.optim.SGD(weights.trainable.values(), lr=recipe.lr, momentum=self.momentum)
        return Optimizers(weights, recipe, [optimizer])
