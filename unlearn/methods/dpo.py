"""Direct preference optimisation of refusals over the forget answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from unlearn.methods.gradient import ForgetRetain, Reference, Scores
from unlearn.methods.reduction import Reduction, reduce_rows

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class DPO(ForgetRetain):
    """forget = -(2 / beta) mean_b log sigmoid(beta (r_b(A) - r_b(F))), with r_b(X) = S_ref_b(X) - S_b(X) (nats).

    F are forget rows, A the same questions with refusals as answers, S_b the summed nll of row b. Rafailov et al. 2023,
    DPO; for unlearning Maini et al. 2024, Zhang et al. 2024. The factor 2 / beta, which textbook DPO lacks, makes the
    gradient at the reference model independent of beta. With answers that the model itself made up instead of refusals
    it is AltPO (Mekala et al. 2024).
    """

    beta: Annotated[float, Gt(0)] = 0.1
    """How soon a preference is strong enough."""
    reduction: Reduction = "sequence_sum"
    """What stands for S_b, see unlearn/methods/reduction.py."""

    def forget_segments(self) -> tuple[str, ...]:
        """Forget answers and refusals."""
        return ("forget", "refusal")

    def forget_reference(self) -> set[Reference]:
        """Return the reference model's log-probabilities of both."""
        return {"nll"}

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return the preference loss."""
        from torch.nn.functional import logsigmoid

        margin = self.reward(scores["refusal"]) - self.reward(scores["forget"])
        return scores["forget"].row_mean(-2 / self.beta * logsigmoid(self.beta * margin))

    def reward(self, scores: TokenScores) -> Tensor:
        """Return r_b: how much likelier a row is than under the reference model, [rows] (nats)."""
        return reduce_rows(scores.reference_sums - scores.sums, scores.counts, self.reduction)
