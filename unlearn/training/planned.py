"""Training on text along a plan: what plain training and gradient methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from unlearn.models.batches import Batch, micro_batches

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor

    from unlearn.training.objective import Loss, Losses, Shard, Side
    from unlearn.training.plan import Plan


class Planned(ABC):
    """An objective whose steps are those of a plan."""

    def __init__(self, plan: Plan, reference_nll: Mapping[int, float] | None = None) -> None:
        self.plan, self.reference_nll = plan, reference_nll
        self.state: dict[str, Tensor] | None = None

    @property
    def steps(self) -> int:
        """The plan's."""
        return len(self.plan.steps)

    def batches(self, step: int, shard: Shard, tokens: int) -> Sequence[Batch]:
        """Return the plan's rows, with the reference's nll where there is a table."""
        plan = self.plan
        return micro_batches(plan.rows, plan.steps[step], tokens, plan.beside, self.reference_nll, shard)

    def before_step(self, policy: Any, batches: Sequence[Batch]) -> None:
        """Begin with an empty state."""
        self.state = self.state or {}

    @abstractmethod
    def loss(self, policy: Any, batch: Batch, only: Collection[Side]) -> Loss:
        """Return the terms of these sides, of one micro-batch."""

    def numbers(self) -> Losses:
        """Return none."""
        return {}

    def after_step(self, losses: Losses) -> None:
        """Take no note."""
        return

    def may_save(self, step: int) -> bool:
        """Return True: weights and state are all there is."""
        return True
