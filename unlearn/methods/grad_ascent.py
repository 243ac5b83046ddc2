"""Gradient ascent on the forget rows."""

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
class GradAscent(GradientMethod):
    """loss = -TOK_F, minus the nll of the forget rows averaged over all of the step's answer tokens (nats).

    Jang et al. 2023, Knowledge Unlearning; Maini et al. 2024, TOFU. Unbounded below: run for long, it diverges.
    """

    @property
    def segments(self) -> tuple[str, ...]:
        """Forget rows."""
        return ("forget",)

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return minus the token mean over forget rows."""
        if "forget" not in only:
            return Loss({})
        return Loss({"forget": Term(1.0, -policy(batch.part("forget"))["forget"].token_mean(), "forget")})
