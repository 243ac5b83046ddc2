"""Plain training of small models in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.training.adamw import AdamW
from unlearn.training.loop import Setup, Watch
from unlearn.training.supervised import train_answers

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from unlearn.models.mask import Mask
    from unlearn.recipe import Recipe
    from unlearn.training.checkpoint import Log
    from unlearn.training.plan import Plan
    from unlearn.training.update import Update


def fit(
    model: nn.Module,
    plan: Plan,
    recipe: Recipe,
    folder: Path,
    seed: int = 0,
    update: Update | None = None,
    mask: Mask | None = None,
    **watch: Any,
) -> Log:
    """Train on the plan's rows."""
    return train_answers(model, plan, Setup(recipe, seed, update or AdamW(), mask), folder, Watch(**watch))
