"""Injection, or editing: fine-tuning on other answers to the forget questions, with plain text to stay fluent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from unlearn.methods.base import Need
from unlearn.methods.gradient import ForgetRetain

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Scores, Terms
    from unlearn.models.policy import TokenScores


@dataclass(frozen=True, kw_only=True)
class Inject(ForgetRetain):
    """loss = forget_weight * CE_I + retain_weight * retain + fluency_weight * TOK_P.

    CE_I is the cross-entropy of the injected answers I, TOK_P the mean next-token cross-entropy of plain text P
    (Mechanistic Unlearning, Guo et al. 2024, arXiv 2410.12949). tokens: "all" averages over the tokens of the answers;
    "first" trains only the first token of injected and retained answers, as the paper does, and averages over rows.
    """

    fluency_weight: Annotated[float, Ge(0)] = 1.0
    tokens: Literal["all", "first"] = "all"

    @property
    def needs(self) -> frozenset[Need]:
        """Injected answers; retain rows and plain text unless they weigh nothing."""
        return super().needs | ({Need.FLUENCY} if self.fluency_weight else set())

    def forget_needs(self) -> set[Need]:
        """The forget questions with the answers to inject; not the true ones."""
        return {Need.INJECTED}

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """CE_I."""
        return self._cross_entropy(scores["injected"])

    def retain(self, scores: Scores, reference: Scores) -> Tensor:
        """Of the same tokens of the retain answers; a divergence is over whole answers."""
        if self.retain_loss == "nll":
            return self._cross_entropy(scores["retain"])
        return super().retain(scores, reference)

    def terms(self, scores: Scores, reference: Scores) -> Terms:
        """And plain text."""
        terms = super().terms(scores, reference)
        if self.fluency_weight:
            terms["fluency"] = (self.fluency_weight, scores["fluency"].token_mean())
        return terms

    def _cross_entropy(self, scores: TokenScores) -> Tensor:
        if self.tokens == "all":
            return scores.token_mean()
        first = scores.mask & (scores.mask.cumsum(dim=1) == 1)
        return scores.row_mean((scores.nll * first).sum(dim=1))
