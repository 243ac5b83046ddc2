"""KL minimisation: ascent on the forget rows while the retain rows' distributions stay the reference model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn.methods.base import Need
from unlearn.methods.divergence import divergence
from unlearn.methods.gradient import ForgetRetain

if TYPE_CHECKING:
    from unlearn.methods.gradient import Scores, Terms
    from unlearn.models.policy import Positions


@dataclass(frozen=True, kw_only=True)
class KL(ForgetRetain):
    """loss = -forget_weight * TOK_F + retain_weight * D_R + forget_kl_weight * D_F, D the divergence `retain_loss`.

    Maini et al. 2024, TOFU, with forget_kl_weight 0. Above 0 the forget rows' distributions are kept near the reference
    model's too (the NPO code's `grad_ascent_forgetKL`), below 0 they are driven away (WAGLE's `KL`, forget_weight 0).
    """

    retain_loss: Literal["kl", "kl_wagle", "kl_muse"] = "kl"
    forget_kl_weight: float = 0.0

    def forget_needs(self) -> set[Need]:
        """Forget rows; the reference model where their divergence counts."""
        return {Need.FORGET, Need.REFERENCE_MODEL} if self.forget_kl_weight else {Need.FORGET}

    def logits_at(self) -> dict[str, Positions]:
        """The retain rows', and the forget rows' where their divergence counts."""
        mine: dict[str, Positions] = {"forget": self.kl_positions} if self.forget_kl_weight else {}
        return mine | super().logits_at()

    def terms(self, scores: Scores, reference: Scores) -> Terms:
        """With a third term, "forget_kl", where it counts."""
        terms = super().terms(scores, reference)
        if self.forget_kl_weight:
            mine = divergence(self.retain_loss, scores["forget"], reference["forget"])
            terms["forget_kl"] = (self.forget_kl_weight, mine)
        return terms
