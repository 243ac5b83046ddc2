"""Direct preference optimisation of refusals over the forget answers."""

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
    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class DPO(ForgetRetain):
    """forget = -(2 / beta) mean_b log sigmoid(beta (r_b(A) - r_b(F))), with r_b(X) = S_ref_b(X) - S_b(X) (nats).

    F are forget rows, A the same questions with refusals as answers, S_b the summed nll of row b. Rafailov et al. 2023,
    DPO; for unlearning Maini et al. 2024, Zhang et al. 2024. The factor 2 / beta, which textbook DPO lacks, makes the
    gradient at the reference model independent of beta. With answers that the model itself made up instead of refusals
    it is AltPO (Mekala et al. 2024).
    reduction: what stands for S_b, see unlearn/methods/reduction.py.
    """

    beta: Annotated[float, Gt(0)] = 0.1
    reduction: Literal["sequence_sum", "sequence_mean", "pooled_token"] = "sequence_sum"

    def forget_needs(self) -> set[Need]:
        """Forget answers, refusals, and the reference model's log-probabilities of both."""
        return {Need.FORGET, Need.ALTERNATE, Need.REFERENCE_LOGPS}

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """The preference loss."""
        from torch.nn.functional import logsigmoid

        margin = self.reward(scores["alternate"]) - self.reward(scores["forget"])
        return scores["forget"].row_mean(-2 / self.beta * logsigmoid(self.beta * margin))

    def reward(self, scores: TokenScores) -> Tensor:
        """r_b: how much likelier a row is than under the reference model, [rows] (nats)."""
        return reduce_rows(scores.reference_sums - scores.sums, scores.counts, self.reduction)
