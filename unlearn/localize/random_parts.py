"""Whole parts of a model drawn at random: the baselines that say whether it matters which."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from unlearn.data.task import Task
from unlearn.errors import UserError
from unlearn.localize.base import Fraction, Located, Subject


@dataclass(frozen=True, kw_only=True)
class RandomParts:
    """Parts drawn uniformly without replacement until a budget of weights is reached or passed.

    parts: "mlps", each with gate, up and down ("random_mlps" of Mechanistic Unlearning, Guo et al. 2024), or
    "matrices", single ones with their biases among q, k, v, o, gate, up and down ("random"; that code forgets the
    gate). A matrix that fuses several counts once. The budget is select, a share of all the model's weights;
    parameters, a number of them, or count, how many parts, take its place where one is set. seed: None: the run's. The
    number "budget_ratio" is the weights selected over the budget.

    Raises ValueError where both are set, UserError where the model has too few parts.
    """

    parts: Literal["mlps", "matrices"] = "mlps"
    select: Fraction = 0.1
    parameters: Annotated[int, Gt(0)] | None = None
    count: Annotated[int, Gt(0)] | None = None
    seed: Annotated[int, Ge(0)] | None = None

    def __post_init__(self) -> None:
        if self.parameters and self.count:
            raise ValueError("parameters and count are both set: there can be one budget")

    def check(self, task: Task) -> None:
        """Any task will do."""

    def localize(self, subject: Subject) -> Located:
        """Draw."""
        from unlearn.localize.parts import matrices, mlps, union

        model = subject.model
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        budget = self.parameters or self.select * sum(sizes.values())
        parts = mlps(model) if self.parts == "mlps" else matrices(model)
        random.Random(subject.seed if self.seed is None else self.seed).shuffle(parts)
        drawn, used = 0, 0
        while drawn < self.count if self.count else used < budget:
            if drawn == len(parts):
                wanted = f"{self.count} {self.parts}" if self.count else f"{self.parts} of {budget:.0f} weights"
                raise UserError(f"{wanted} are to be drawn, but the model has {drawn}, with {used} weights")
            used += sum(sizes[name] for name in parts[drawn])
            drawn += 1
        ratio = {} if self.count else {"budget": budget, "budget_ratio": used / budget}
        return Located(union(model, parts[:drawn]), {"parts": drawn, "parameters": used, **ratio})
