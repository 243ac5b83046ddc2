"""Attacks with several budgets: what each budget shows, and what it costs to recover half."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from unlearn.leak.crossfit import estimate
from unlearn.leak.variants import LEAST_ROOM, ByRole, candidates_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.leak.leak_row import Row

RECOVERED = 0.5  # the leak at which the cost of recovery is read


@dataclass(frozen=True)
class LadderStep:
    """One budget of an attack with a ladder: the smallest budget comes first."""

    attack: str
    """Its name in the table."""
    budget: float
    """The budget, in the attack's own unit."""
    original: float
    """A_o at this budget."""
    unlearned: float
    """A_u."""
    control: float
    """A_r."""
    leak: float
    """(A_u - A_r) / (A_o - A_r); nan where there is no room."""


def ladder_of(name: str, by_role: ByRole, clusters: Sequence[str], seed: int) -> list[LadderStep]:
    """Return the attack at each of its budgets alone, where there are several."""
    budgets = sorted({o.budget for o in by_role["unlearned"] if o.budget is not None})
    if len(budgets) < 2:
        return []
    ladder_steps = []
    for budget in budgets:
        candidates, _ = candidates_of({part: [o for o in os if o.budget == budget] for part, os in by_role.items()})
        found = estimate(candidates, clusters, seed)
        leak = found.leak if found.room >= LEAST_ROOM else math.nan
        ladder_steps.append(LadderStep(name, budget, found.original, found.unlearned, found.control, leak))
    return ladder_steps


def recovery(ladder_steps: Sequence[LadderStep]) -> tuple[float, float]:
    """Return the smallest budget at which L >= 0.5 (inf: none does), and the mean of L over log budget.

    The latter is the area under the curve divided by its width. nan where no step is informative.
    """
    points = [(step_.budget, step_.leak) for step_ in ladder_steps if math.isfinite(step_.leak) and step_.budget > 0]
    if not points:
        return math.nan, math.nan
    cost = next((budget for budget, leak in points if leak >= RECOVERED - 1e-9), math.inf)
    x, y = np.log([budget for budget, _ in points]), np.array([leak for _, leak in points])
    area = np.trapezoid(y, x) / (x[-1] - x[0]) if len(points) > 1 else y[0]
    return cost, float(area)


def with_cost(row: Row, ladder: Sequence[LadderStep]) -> Row:
    """Return the row with what its ladder says of the cost of recovery."""
    if not ladder:
        return row
    cost, area = recovery(ladder)
    return replace(row, cost=cost, area=area)
