"""Injection, or editing: fine-tuning on other answers to the forget questions, with plain text to stay fluent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from unlearn.methods.gradient import ForgetRetain, Scores, State, Terms
from unlearn.training.objective import Side, Term

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class Inject(ForgetRetain):
    """loss = forget_weight * CE_I + retain_weight * retain + fluency_weight * TOK_P.

    CE_I is the cross-entropy of the injected answers I, TOK_P the mean next-token cross-entropy of plain text P
    (Mechanistic Unlearning, Guo et al. 2024, arXiv 2410.12949).
    """

    fluency_weight: Annotated[float, Ge(0)] = 1.0
    """How much plain text counts; 0: it is not read."""
    tokens: Literal["all", "first"] = "all"
    """What is trained: "all" tokens of an answer, or the "first" one only, as in the paper. "all" averages over the
    tokens of injected and retained answers, "first" over rows."""

    def forget_segments(self) -> tuple[str, ...]:
        """Return the forget questions with the answers to inject; not the true ones."""
        return ("injected",)

    def retain_segments(self) -> tuple[str, ...]:
        """And plain text."""
        return (*super().retain_segments(), *(("fluency",) if self.fluency_weight else ()))

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return CE_I."""
        return self._cross_entropy(scores["injected"])

    def retain(self, scores: Scores, reference: Scores) -> Tensor:
        """Return that of the same tokens of the retain answers; a divergence is over whole answers."""
        if self.retain_loss == "nll":
            return self._cross_entropy(scores["retain"])
        return super().retain(scores, reference)

    def terms(self, scores: Scores, reference: Scores, state: State, only: Collection[Side]) -> Terms:
        """Return the terms, with that of plain text."""
        terms = super().terms(scores, reference, state, only)
        if "retain" in only and self.fluency_weight:
            terms["fluency"] = Term(self.fluency_weight, scores["fluency"].token_mean(), "retain")
        return terms

    def _cross_entropy(self, scores: TokenScores) -> Tensor:
        if self.tokens == "all":
            return scores.token_mean()
        first = scores.mask & (scores.mask.cumsum(dim=1) == 1)
        return scores.row_mean((scores.nll * first).sum(dim=1))
