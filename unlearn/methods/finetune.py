"""Plain fine-tuning: how original and control models are trained, and the weakest baseline of unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.methods.base import Loss, Need

if TYPE_CHECKING:
    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy


@dataclass(frozen=True)
class Finetune:
    """loss = TOK_R, the nll of the rows of segment "retain", averaged over all of the step's answer tokens (nats)."""

    needs = frozenset({Need.RETAIN})

    def loss(self, policy: Policy, batch: Batch, reference: Policy | None) -> Loss:
        """The token mean over retain rows."""
        term = policy(batch.part("retain"))["retain"].token_mean()
        return Loss(term, {"retain": term})
