"""Detaching: where unlearning is an adapter or a filter on top, the weights below still know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from unlearn.attacks.base import Attacked, Brief, Inapplicable, Suspect, Threat
from unlearn.attacks.weights.changes import Change, Visit, judged
from unlearn.data.task import Task


@dataclass(frozen=True)
class Detach:
    """Load the weights without the adapter, prompt or filter that unlearns.

    L = 1 by construction where there is one, but only there: what `unlearn run lora=...` releases is the merged model,
    whose adapter no longer comes off. The original and the retain model have nothing to detach, and are asked as they
    are.
    """

    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = "removal"
    reference: ClassVar[str] = ""
    randomised: ClassVar[bool] = False

    def check(self, task: Task) -> None:
        """Any task will do."""

    def attack(self, suspect: Suspect, brief: Brief) -> Attacked:
        """One outcome."""
        return Attacked(judged(self, suspect, brief), budget="1 load")

    def change(self, suspect: Suspect, brief: Brief, seed: int, visit: Visit) -> None:
        """The model below. Raises Inapplicable where the weights themselves were changed."""
        if suspect.wrapped is None:
            if suspect.part == "unlearned":
                raise Inapplicable("not applicable: the weights themselves were changed (a merged adapter is gone)")
            visit(Change("detached", suspect))
            return
        from unlearn.models.loading import load_on

        below = load_on(suspect.wrapped, suspect.model.device)
        visit(Change("detached", replace(suspect, model=below, wrapped=None)))
