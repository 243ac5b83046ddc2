"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.methods.preference import Preference
from unlearn.methods.reduction import Reduction, reduce_rows

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Reference, Scores
    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class NPO(Preference):
    """forget = -(2 / beta) mean_b log sigmoid(beta (S_b - S_ref_b)), with S_b the summed nll of forget row b (nats).

    Zhang et al. 2024, Negative Preference Optimization: the rejected half of DPO. A row's gradient weighs
    2 sigmoid(-beta (S_b - S_ref_b)), 1 at the start, and vanishes once the row is forgotten. Reduction "sequence_sum"
    is the paper's and OpenUnlearning's, "pooled_token" that of WAGLE, SOUL and Unlearn-Smooth (with the same beta
    another, weaker method).
    """

    def forget_reference(self) -> set[Reference]:
        """Return the reference model's log-probabilities of the forget rows; itself for raw logits."""
        return {"model" if self.reduction == "logits_muse" else "nll"}

    def excess(self, row: TokenScores, reduction: Reduction) -> Tensor:
        """Return S_b - S_ref_b."""
        return reduce_rows(row.sums - row.reference_sums, row.counts, reduction)

    def excess_logits(self, row: TokenScores, reference: Scores) -> Tensor:
        """Return z_ref - z."""
        from unlearn.models.projection import precise

        theirs = reference["forget"].logits
        assert row.logits is not None
        assert theirs is not None
        return precise(theirs) - precise(row.logits)
