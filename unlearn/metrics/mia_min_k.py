"""Membership inference by the least probable tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le

from unlearn.metrics.base import Result
from unlearn.metrics.columns import answers, without_eos
from unlearn.metrics.membership import mean_of_lowest, membership
from unlearn.score.table import Scores


@dataclass(frozen=True)
class MiaMinK:
    """Score of a row: minus the mean of its lowest share k of token log-probabilities, EOS left out (Min-K%, Shi et al.
    2024, arXiv 2310.16789)."""

    k: Annotated[float, Gt(0), Le(1)] = 0.4

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        return [membership("mia_min_k", self.rows(scores, "forget"), self.rows(scores, "holdout"))]

    def rows(self, scores: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        logps = without_eos(answers(scores, aim), "logp")
        return -np.array([mean_of_lowest(logp, self.k) for logp in logps])
