"""Plain fine-tuning on the retain rows: the weakest baseline of unlearning."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.methods.gradient import NO_STATE, GradientMethod, State
from unlearn.training.objective import SIDES, Loss, Side, Term

if TYPE_CHECKING:
    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy


@dataclass(frozen=True)
class Finetune(GradientMethod):
    """loss = TOK_R, the nll of the retain rows, averaged over all of the step's answer tokens (nats)."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Retain rows."""
        return ("retain",)

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the token mean over retain rows."""
        if "retain" not in only:
            return Loss({})
        return Loss({"retain": Term(1.0, policy(batch.part("retain"))["retain"].token_mean(), "retain")})
