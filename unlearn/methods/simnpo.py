"""Simple negative preference optimisation: NPO without a reference model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from unlearn.methods.preference import Preference
from unlearn.methods.reduction import Reduction, reduce_rows

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Scores
    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class SimNPO(Preference):
    """forget = -(2 / beta) mean_b log sigmoid(beta (S_b / n_b - margin)), with S_b / n_b the mean nll of row b (nats).

    Fan et al. 2024, Simplicity Prevails. The defaults are the paper's for TOFU forget10 (forget05: forget_weight
    0.1375, beta 2.5; MUSE: forget_weight 1, retain_weight 0.1, beta 0.7 for News and 0.75 for Books).
    """

    forget_weight: Annotated[float, Ge(0)] = 0.125
    """Weight of the forget loss."""
    beta: Annotated[float, Gt(0)] = 4.5
    """How soon a row counts as forgotten: it weighs 2 sigmoid(-beta x_b), x_b = S_b / n_b - margin."""
    margin: float = 0.0
    """How much nll a row should have at least (nats per token)."""
    reduction: Literal["sequence_mean", "sequence_sum", "pooled_token", "logits_muse"] = "sequence_mean"
    """From tokens to S_b / n_b, see unlearn/methods/reduction.py; "logits_muse" reproduces a defect. "sequence_mean" is
    the paper's, "pooled_token" that of its code for WMDP."""

    def excess(self, row: TokenScores, reduction: Reduction) -> Tensor:
        """Return S_b / n_b - margin."""
        return reduce_rows(row.sums, row.counts, reduction) - self.margin

    def excess_logits(self, row: TokenScores, reference: Scores) -> Tensor:
        """Return -z - margin."""
        from unlearn.models.projection import precise

        assert row.logits is not None
        return -precise(row.logits) - self.margin
