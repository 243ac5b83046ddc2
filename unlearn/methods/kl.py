"""KL minimisation: ascent on the forget rows while the retain rows' distributions stay the reference model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn.methods.divergence import divergence
from unlearn.methods.gradient import ForgetRetain, Reference, Scores, State, Terms
from unlearn.training.objective import Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection

    from unlearn.models.policy import Positions


@dataclass(frozen=True, kw_only=True)
class KL(ForgetRetain):
    """loss = -forget_weight * TOK_F + retain_weight * D_R + forget_kl_weight * D_F, D the divergence `retain_loss`.

    Maini et al. 2024, TOFU, with forget_kl_weight 0.
    """

    retain_loss: Literal["kl", "kl_wagle", "kl_muse"] = "kl"
    """Divergence D from the reference model, see unlearn/methods/divergence.py."""
    forget_kl_weight: float = 0.0
    """Of the divergence on forget rows; below 0 drives them away from the reference. Above 0 their distributions are
    kept near the reference model's too (the NPO code's `grad_ascent_forgetKL`); WAGLE's `KL` is below 0 with
    forget_weight 0."""

    def forget_reference(self) -> set[Reference]:
        """Return the model where the forget rows' divergence counts."""
        return {"model"} if self.forget_kl_weight else set()

    def logits_at(self) -> dict[str, Positions]:
        """Return the retain rows', and the forget rows' where their divergence counts."""
        mine: dict[str, Positions] = {"forget": self.kl_positions} if self.forget_kl_weight else {}
        return mine | super().logits_at()

    def terms(self, scores: Scores, reference: Scores, state: State, only: Collection[Side]) -> Terms:
        """Return the terms, with a third one, "forget_kl", where it counts."""
        terms = super().terms(scores, reference, state, only)
        if "forget" in only and self.forget_kl_weight:
            value = divergence(self.retain_loss, scores["forget"], reference["forget"])
            terms["forget_kl"] = Term(self.forget_kl_weight, value, "forget")
        return terms
