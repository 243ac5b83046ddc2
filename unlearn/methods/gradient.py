"""What the methods share: a forget term, and the retain term that keeps other knowledge in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from unlearn.methods.base import SEGMENTS, Loss, Need
from unlearn.methods.divergence import divergence

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy, Positions, TokenScores

    Scores = dict[str, TokenScores]
    Terms = dict[str, tuple[float, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ForgetRetain:
    """total = forget_weight * forget + retain_weight * retain; a method says what `forget` is.

    retain_loss: "nll", the token mean TOK_R of the nll over retain rows; or "kl", KL(reference || current) on them.
        "kl_wagle" and "kl_muse" are the defects of two released codes, there only to reproduce their numbers (see
        unlearn/methods/divergence.py).
    kl_positions: where a divergence is taken: "labels" (answer tokens; cheapest), "attended" (prompt and answer), or
        "all" (padding too, which dilutes it: what TOFU, NPO and OpenUnlearning do). It is averaged over each row's
        positions, then over rows.

    Raises ValueError where both weights are 0.
    """

    forget_weight: Annotated[float, Ge(0)] = 1.0
    retain_weight: Annotated[float, Ge(0)] = 1.0
    retain_loss: Literal["nll", "kl", "kl_wagle", "kl_muse"] = "nll"
    kl_positions: Literal["labels", "attended", "all"] = "attended"

    def __post_init__(self) -> None:
        if not self.forget_weight and not self.retain_weight:
            raise ValueError("forget_weight and retain_weight are both 0: there is nothing to minimise")

    @property
    def needs(self) -> frozenset[Need]:
        """What the forget term needs; retain rows unless they weigh nothing; the reference model for a divergence."""
        needs = set(self.forget_needs())
        if self.retain_weight:
            needs |= {Need.RETAIN} if self.retain_loss == "nll" else {Need.RETAIN, Need.REFERENCE_MODEL}
        return frozenset(needs)

    def loss(self, policy: Policy, batch: Batch, reference: Policy | None) -> Loss:
        """All terms of one micro-batch, from one pass of the model over the rows that they look at."""
        import torch

        needs, where = self.needs, self.logits_at()
        batch = batch.part(*(name for need, name in SEGMENTS.items() if need in needs))
        scores = policy(batch, where)
        theirs: Scores = {}
        if Need.REFERENCE_MODEL in needs:
            assert reference is not None
            with torch.no_grad():
                theirs = reference(batch.part(*where), where)
        terms = self.terms(scores, theirs)
        total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return Loss(total, {name: term for name, (_, term) in terms.items()})

    def forget_needs(self) -> set[Need]:
        """What the forget term needs."""
        return {Need.FORGET}

    def logits_at(self) -> dict[str, Positions]:
        """In which segments whole distributions are needed, and at which positions."""
        return {"retain": self.kl_positions} if self.retain_weight and self.retain_loss != "nll" else {}

    def terms(self, scores: Scores, reference: Scores) -> Terms:
        """Weight and value of each term by name. `reference` is the reference model's side of `logits_at`."""
        terms = {"forget": (self.forget_weight, self.forget(scores, reference))}
        if self.retain_weight:
            terms["retain"] = (self.retain_weight, self.retain(scores, reference))
        return terms

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """The forget term before weighting: gradient ascent, -TOK_F, unless a method says otherwise."""
        return -scores["forget"].token_mean()

    def retain(self, scores: Scores, reference: Scores) -> Tensor:
        """The retain term before weighting."""
        if self.retain_loss == "nll":
            return scores["retain"].token_mean()
        return divergence(self.retain_loss, scores["retain"], reference["retain"])
