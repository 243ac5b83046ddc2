"""Preference optimisation (PO), also called IDK: fine-tuning on refusals to the forget questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unlearn.methods.base import Need
from unlearn.methods.gradient import ForgetRetain

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.methods.gradient import Scores, Terms


@dataclass(frozen=True, kw_only=True)
class PO(ForgetRetain):
    """loss = forget_weight * TOK_A + retain_weight * retain, where A are the forget questions with refusals as answers.

    pooling: "separate" averages over the tokens of A and over those of the retain rows, as WAGLE and SOUL (Jia et al.
        2024) do. "joint" takes one mean over all tokens of both, as TOFU's `idk` (Maini et al. 2024) does: each term is
        further weighted by its share of the step's answer tokens, so that long retain answers dominate. Raises
        ValueError where it is given without an nll of retain rows.
    """

    pooling: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling == "joint" and (self.retain_loss != "nll" or not self.retain_weight):
            raise ValueError(
                "pooling=joint averages over refusals and retain rows: it needs retain_loss=nll and a retain_weight"
            )

    def forget_needs(self) -> set[Need]:
        """The forget questions with refusals; not the forget answers."""
        return {Need.ALTERNATE}

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """TOK_A."""
        return scores["alternate"].token_mean()

    def terms(self, scores: Scores, reference: Scores) -> Terms:
        """Weighted by token share where pooled jointly."""
        terms = super().terms(scores, reference)
        if self.pooling == "separate":
            return terms
        tokens = {"forget": scores["alternate"].segment.total_tokens, "retain": scores["retain"].segment.total_tokens}
        return {name: (weight * tokens[name] / sum(tokens.values()), term) for name, (weight, term) in terms.items()}
