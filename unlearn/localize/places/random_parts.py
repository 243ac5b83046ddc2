"""Whole parts of a model drawn at random: the baselines that say whether it matters which."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from unlearn.localize.budget import Budget

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class RandomParts(Budget):
    """Draw parts uniformly without replacement until a budget of weights is reached or passed.

    The number "budget_ratio" is the weights selected over the budget.
    """

    parts: Literal["mlps", "matrices"] = "mlps"
    """What is drawn: whole MLPs ("mlps"), or single matrices with their biases ("matrices"). "mlps", each with gate, up
    and down, is "random_mlps" of Mechanistic Unlearning (Guo et al. 2024). "matrices", among q, k, v, o, gate, up and
    down, is its "random"; that code forgets the gate. A matrix that fuses several counts once."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the draw; None: the run's."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Draw the parts and return their mask; UserError where the model has too few."""
        from unlearn.localize.places.parts import matrices, mlps, union

        model, (mine, matched) = subject.module, self.matched(subject, task, seed)
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        parts = mlps(model) if self.parts == "mlps" else matrices(model)
        random.Random(seed if self.seed is None else self.seed).shuffle(parts)
        ordered = [sum(sizes[name] for name in part) for part in parts]
        drawn = mine.taken(ordered, sum(sizes.values()), self.parts)
        mask = union(model, [parts[number] for number in drawn])
        return mine.located(mask, {"parts": len(drawn), "parameters": mask.selected}, {}, matched)
