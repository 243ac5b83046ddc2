"""Membership inference by loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import answers, row_means
from unlearn.metrics.membership import membership
from unlearn.score.table import Scores


@dataclass(frozen=True)
class MiaLoss:
    """Score of a row: its mean token loss, EOS included (Yeom et al. 2018, arXiv 1709.01604)."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        return [membership("mia_loss", self.rows(scores, "forget"), self.rows(scores, "holdout"))]

    def rows(self, scores: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        return -row_means(answers(scores, aim)["logp"])
