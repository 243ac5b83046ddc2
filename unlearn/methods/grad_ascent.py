"""Gradient ascent on the forget rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.methods.base import Loss, Need

if TYPE_CHECKING:
    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy


@dataclass(frozen=True)
class GradAscent:
    """loss = -TOK_F, minus the nll of the forget rows averaged over all of the step's answer tokens (nats).

    Jang et al. 2023, Knowledge Unlearning; Maini et al. 2024, TOFU. Unbounded below: run for long, it diverges.
    """

    needs = frozenset({Need.FORGET})

    def loss(self, policy: Policy, batch: Batch, reference: Policy | None) -> Loss:
        """Minus the token mean over forget rows."""
        term = -policy(batch.part("forget"))["forget"].token_mean()
        return Loss(term, {"forget": term})
