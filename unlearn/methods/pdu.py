"""Primal-dual unlearning: the retain term counts as much as it takes to keep its loss below a bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from unlearn.methods.gradient import NO_STATE, ForgetRetain, Scores, State
from unlearn.training.objective import SIDES, Loss, Losses, Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy, Positions


@dataclass(frozen=True, kw_only=True)
class PDU(ForgetRetain):
    """loss = forget_weight * forget + m (retain - bound), and after each step m <- max(0, m + rate (retain - bound)).

    forget is the mean over answer tokens of (max_v z - mean_v z)^2, with z the logits: the flatter, the less is said.
    Entesari et al. 2025, Constrained Entropic Unlearning (arXiv 2506.05314), whose code updates the multiplier m after
    every micro-batch: that is the case of steps of one micro-batch.
    """

    retain_weight: Annotated[float, Ge(0)] = 100.0
    """The multiplier m at the start; the paper's for TOFU."""
    bound: Annotated[float, Ge(0)] = 0.3
    """What the retain loss should stay below (nats per token). A little above what it is at the start."""
    rate: Annotated[float, Ge(0)] = 5.0
    """How fast m follows."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps at the start in which m stays."""
    positions: Literal["predicting", "reference_unshifted"] = "predicting"
    """Where forget looks: "predicting", or "reference_unshifted" (one token off, as the released code). The first are
    the positions that predict the answer's tokens; the second those tokens themselves, so that the first one's
    prediction is missed and what follows the last one counts."""

    def logits_at(self) -> dict[str, Positions]:
        """Return the forget rows', and the retain rows' for a divergence."""
        mine: dict[str, Positions] = {"forget": "labels" if self.positions == "predicting" else "attended"}
        return mine | super().logits_at()

    def compared(self) -> Collection[str]:
        """Return the retain rows' for a divergence."""
        return super().logits_at()

    def begin(self, policy: Policy, batches: Sequence[Batch], seed: int) -> State:
        """Start the multiplier."""
        import torch

        return {"multiplier": torch.tensor(self.retain_weight, dtype=torch.float64), "steps": torch.tensor(0)}

    def numbers(self, state: State) -> dict[str, float]:
        """Return the multiplier."""
        return {"multiplier": state["multiplier"].item()}

    def after_step(self, losses: Losses, state: State) -> None:
        """Update the multiplier."""
        state["steps"] += 1
        if state["steps"] > self.warmup_steps and self.retain_weight:
            state["multiplier"] += self.rate * (losses["retain"] - self.bound)
            state["multiplier"].clamp_(min=0)

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the terms, "bound" among them: a constant, of which the loss that is logged is made."""
        terms = dict(super().loss(policy, batch, reference, state, only).terms)
        if (retain := terms.get("retain")) is not None:
            multiplier = state["multiplier"].item()
            terms["retain"] = replace(retain, weight=multiplier)
            terms["bound"] = Term(-multiplier, retain.value.new_tensor(self.bound * batch.share), "retain")
        return Loss(terms)

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return how far the logits are from flat."""
        from torch.nn.functional import pad

        from unlearn.models.projection import precise

        row = scores["forget"]
        assert row.logits is not None
        assert row.positions is not None
        logits = precise(row.logits)
        if self.positions == "reference_unshifted":
            logits = logits[pad(row.mask, (1, 0))[row.positions]]
        return (logits.amax(-1) - logits.mean(-1)).square().sum() / row.segment.total_tokens
