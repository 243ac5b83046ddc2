"""AdamW, the update unless something else is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from unlearn.training.objective import Side

if TYPE_CHECKING:
    from unlearn.recipe import Recipe
    from unlearn.training.update import Running
    from unlearn.training.weights import Weights

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization), its moments in float32."""

    version: ClassVar[int] = 2
    sides: ClassVar[frozenset[Side]] = frozenset()

    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return AdamW over all trainable weights."""
        from unlearn.training.optimizers import Optimizers, adamw

        return Optimizers(weights, recipe, adamw(weights, weights.trainable, recipe, self.betas))
