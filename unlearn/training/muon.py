"""Muon for matrices, AdamW for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from unlearn.training.adamw import Share
from unlearn.training.objective import Side

if TYPE_CHECKING:
    from unlearn.recipe import Recipe
    from unlearn.training.update import Running
    from unlearn.training.weights import Weights


@dataclass(frozen=True)
class Muon:
    """Muon (Jordan et al. 2024) for the matrices inside decoder layers, AdamW for all other weights.

    Matrices of which a mask selects a part go to AdamW, since Muon's update mixes the weights of a matrix.
    """

    version: ClassVar[int] = 2
    sides: ClassVar[frozenset[Side]] = frozenset()

    lr: Annotated[float, Gt(0)] = 0.02
    """Peak learning rate of Muon; AdamW's is the recipe's."""
    momentum: Share = 0.95
    """Muon's."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """AdamW's."""

    def start(self, weights: Weights, recipe: Recipe) -> Running:
        """Return Muon beside AdamW."""
        from unlearn.training.optimizers import Optimizers, adamw, muon

        matrices = {
            name: p
            for name, p in weights.trainable.items()
            if p.ndim == 2 and ".layers." in name and not weights.covers(p)
        }
        rest = {name: p for name, p in weights.trainable.items() if name not in matrices}
        return Optimizers(
            weights,
            recipe,
            [*muon(matrices, recipe, self.lr, self.momentum), *adamw(weights, rest, recipe, self.betas)],
        )
