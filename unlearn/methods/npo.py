"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from unlearn.methods.base import Need
from unlearn.methods.gradient import ForgetRetain
from unlearn.methods.reduction import reduce_rows

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Scores
    from unlearn.models.policy import Positions


@dataclass(frozen=True, kw_only=True)
class NPO(ForgetRetain):
    """forget = -(2 / beta) mean_b log sigmoid(beta (S_b - S_ref_b)), with S_b the summed nll of forget row b (nats).

    Zhang et al. 2024, Negative Preference Optimization: the rejected half of DPO. A row's gradient weighs
    2 sigmoid(-beta (S_b - S_ref_b)), 1 at the start, and vanishes once the row is forgotten.
    reduction: what stands for S_b, see unlearn/methods/reduction.py: "sequence_sum" (the paper, OpenUnlearning),
        "sequence_mean", or "pooled_token" (WAGLE, SOUL and Unlearn-Smooth: with the same beta another, weaker method).
        "logits_muse" reproduces MUSE's released code and is of no other use: the mean over all positions and the whole
        vocabulary of the same expression in z_ref - z, raw logits, blind to labels.
    """

    beta: Annotated[float, Gt(0)] = 0.1
    reduction: Literal["sequence_sum", "sequence_mean", "pooled_token", "logits_muse"] = "sequence_sum"

    def forget_needs(self) -> set[Need]:
        """Forget rows and the reference model's log-probabilities of them."""
        return {Need.FORGET, Need.REFERENCE_MODEL if self.reduction == "logits_muse" else Need.REFERENCE_LOGPS}

    def logits_at(self) -> dict[str, Positions]:
        """The retain rows' for a divergence; the forget rows' for MUSE's loss."""
        mine: dict[str, Positions] = {"forget": "all"} if self.reduction == "logits_muse" else {}
        return mine | super().logits_at()

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """The preference loss."""
        from torch.nn.functional import logsigmoid

        from unlearn.models.projection import precise

        row = scores["forget"]
        if self.reduction == "logits_muse":
            theirs = reference["forget"].logits
            assert row.logits is not None and theirs is not None
            each = logsigmoid(self.beta * (precise(theirs) - precise(row.logits)))
            return row.position_mean(-2 / self.beta * each.mean(-1))
        excess = reduce_rows(row.sums - row.reference_sums, row.counts, self.reduction)
        return row.row_mean(-2 / self.beta * logsigmoid(self.beta * excess))
