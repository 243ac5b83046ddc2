"""How the original and the control model came to know what they know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from unlearn.recipe import Recipe


@dataclass(frozen=True)
class Until:
    """When a training may end before its recipe's length: as soon as the model answers well enough."""

    probes: str
    """The probe set, or validation set, that is asked."""
    probability: Annotated[float, Gt(0), Le(1)]
    """Enough is a mean probability of the right answers, per token, of at least this."""
    every: Annotated[int, Ge(1)] = 10
    """Optimizer steps between two looks."""


@dataclass(frozen=True)
class Training:
    """How one of the reference models came to know what it knows."""

    sets: tuple[str, ...]
    """What it was trained on, in this order; (): nothing, it is what it starts from."""
    start: Literal["base", "control"] = "base"
    """What it starts from: the model family's own start, or the control model."""
    recipe: Recipe | None = None
    """None: the family's own (`model.finetune`)."""
    until: Until | None = None


@dataclass(frozen=True)
class History:
    """Where the original and the control model come from."""

    original: Training
    control: Training | None
    """None: there can be no control model, unless one is published."""

    def __post_init__(self) -> None:
        if self.control is not None and self.control.start == "control":
            raise ValueError("the control model cannot start from the control model")
        if self.control is None and self.original.start == "control":
            raise ValueError("the original model cannot start from a control model that there is not")

    def of(self, role: Literal["original", "unlearned", "control"]) -> Training | None:
        """Return how the original or the control model came about."""
        assert role != "unlearned", "that is a method's to say"
        return self.original if role == "original" else self.control


FORGET_AND_RETAIN = History(Training(("retain", "forget")), Training(("retain",)))
"""The original model learned both, the control model never saw the forget set."""
KNOWN = History(Training(()), None)
"""A pretrained model knows it as it is."""
