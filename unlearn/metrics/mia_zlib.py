"""Membership inference by loss beside compressed length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import answers, row_means
from unlearn.metrics.membership import membership
from unlearn.score.table import Scores


@dataclass(frozen=True)
class MiaZlib:
    """Score of a row: its mean token loss over the bytes of its zlib-compressed text (Carlini et al. 2021,
    arXiv 2012.07805)."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        return [membership("mia_zlib", self.rows(scores, "forget"), self.rows(scores, "holdout"))]

    def rows(self, scores: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        table = answers(scores, aim)
        found: np.ndarray = -row_means(table["logp"]) / table["zlib"].to_numpy(dtype=float)
        return found
