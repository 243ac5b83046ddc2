"""Simple negative preference optimisation: NPO without a reference model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from unlearn.methods.gradient import ForgetRetain
from unlearn.methods.reduction import reduce_rows

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Scores
    from unlearn.models.policy import Positions


@dataclass(frozen=True, kw_only=True)
class SimNPO(ForgetRetain):
    """forget = -(2 / beta) mean_b log sigmoid(beta (S_b / n_b - margin)), with S_b / n_b the mean nll of row b (nats).

    Fan et al. 2024, Simplicity Prevails. The defaults are the paper's for TOFU forget10 (forget05: forget_weight
    0.1375, beta 2.5; MUSE: forget_weight 1, retain_weight 0.1, beta 0.7 for News and 0.75 for Books).
    reduction: what stands for S_b / n_b, see unlearn/methods/reduction.py: "sequence_mean" (the paper), "sequence_sum",
        or "pooled_token" (its code for WMDP). "logits_muse" reproduces its code for MUSE and is of no other use: the
        mean over all positions and the whole vocabulary of the same expression in -z, raw logits, blind to labels.
    """

    forget_weight: Annotated[float, Ge(0)] = 0.125
    beta: Annotated[float, Gt(0)] = 4.5
    margin: float = 0.0
    reduction: Literal["sequence_mean", "sequence_sum", "pooled_token", "logits_muse"] = "sequence_mean"

    def logits_at(self) -> dict[str, Positions]:
        """The retain rows' for a divergence; the forget rows' for the loss on raw logits."""
        mine: dict[str, Positions] = {"forget": "all"} if self.reduction == "logits_muse" else {}
        return mine | super().logits_at()

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """The preference loss."""
        from torch.nn.functional import logsigmoid

        from unlearn.models.projection import precise

        row = scores["forget"]
        if self.reduction == "logits_muse":
            assert row.logits is not None
            each = logsigmoid(self.beta * (-precise(row.logits) - self.margin))
            return row.position_mean(-2 / self.beta * each.mean(-1))
        mean = reduce_rows(row.sums, row.counts, self.reduction)
        return row.row_mean(-2 / self.beta * logsigmoid(self.beta * (mean - self.margin)))
