"""What NPO and SimNPO share: a bounded preference against the forget rows."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from unlearn.methods.gradient import ForgetRetain, Scores

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.reduction import Reduction
    from unlearn.models.policy import Positions, TokenScores


@dataclass(frozen=True, kw_only=True)
class Preference(ForgetRetain):
    """forget = -(2 / beta) mean_b log sigmoid(beta x_b).

    x_b: how much nll forget row b has above what it should have at least (nats).
    """

    beta: Annotated[float, Gt(0)] = 0.1
    """How soon a row counts as forgotten: it weighs 2 sigmoid(-beta x_b)."""
    reduction: Literal["sequence_sum", "sequence_mean", "pooled_token", "logits_muse"] = "sequence_sum"
    """From tokens to x_b, see unlearn/methods/reduction.py; "logits_muse" reproduces a defect. It is that of the
    released code of MUSE, and of SimNPO's for it, and of no other use: the mean over all positions and the whole
    vocabulary of the same expression in raw logits, blind to labels."""

    def logits_at(self) -> dict[str, Positions]:
        """Return the retain rows' for a divergence; the forget rows' for the loss on raw logits."""
        mine: dict[str, Positions] = {"forget": "all"} if self.reduction == "logits_muse" else {}
        return mine | super().logits_at()

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return the preference loss."""
        from torch.nn.functional import logsigmoid

        row = scores["forget"]
        if self.reduction == "logits_muse":
            each = logsigmoid(self.beta * self.excess_logits(row, reference))
            return row.position_mean(-2 / self.beta * each.mean(-1))
        return row.row_mean(-2 / self.beta * logsigmoid(self.beta * self.excess(row, self.reduction)))

    @abstractmethod
    def excess(self, row: TokenScores, reduction: Reduction) -> Tensor:
        """Return x_b, [rows]."""

    @abstractmethod
    def excess_logits(self, row: TokenScores, reference: Scores) -> Tensor:
        """Return what stands for x at every position and token, [n, V]."""
