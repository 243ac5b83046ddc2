"""Preference optimisation (PO), also called IDK: fine-tuning on refusals to the forget questions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from unlearn.methods.gradient import NO_STATE, ForgetRetain, Scores, State
from unlearn.training.objective import SIDES, Loss, Side

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from unlearn.models.batches import Batch
    from unlearn.models.policy import Policy


@dataclass(frozen=True, kw_only=True)
class PO(ForgetRetain):
    """loss = forget_weight * TOK_A + retain_weight * retain, where A are the forget questions with refusals as answers.

    Raises ValueError where pooling is "joint" without an nll of retain rows.
    """

    pooling: Literal["separate", "joint"] = "separate"
    """Over tokens: "separate" means of refusals and retain rows, or one "joint" mean of both. WAGLE and SOUL (Jia et
    al. 2024) have the first. The second, TOFU's `idk` (Maini et al. 2024), further weighs each term by its share of the
    step's answer tokens, so that long retain answers dominate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling == "joint" and (self.retain_loss != "nll" or not self.retain_weight):
            raise ValueError(
                "pooling=joint averages over refusals and retain rows: it needs retain_loss=nll and a retain_weight"
            )

    def forget_segments(self) -> tuple[str, ...]:
        """Return the forget questions with refusals; not the forget answers."""
        return ("refusal",)

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return TOK_A."""
        return scores["refusal"].token_mean()

    def loss(
        self,
        policy: Policy,
        batch: Batch,
        reference: Policy | None = None,
        state: State = NO_STATE,
        only: Collection[Side] = SIDES,
    ) -> Loss:
        """Return the terms, weighted by token share where pooled jointly."""
        loss = super().loss(policy, batch, reference, state, only)
        if self.pooling == "separate":
            return loss
        tokens = {"forget": batch.segments["refusal"].total_tokens, "retain": batch.segments["retain"].total_tokens}
        total = sum(tokens.values())
        return Loss({n: replace(term, weight=term.weight * tokens[n] / total) for n, term in loss.terms.items()})
