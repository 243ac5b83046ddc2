"""Membership inference by the tokens least probable for their place."""

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
class MiaMinKPlusPlus:
    """Min-K% over standardised log-probabilities z = (log p - mu) / sqrt(max(var, 1e-6)), with mu and var those of
    log p under the model's own next-token distribution (Min-K%++, Zhang et al. 2024, arXiv 2404.02936).
    """

    k: Annotated[float, Gt(0), Le(1)] = 0.4

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        return [membership("mia_min_k_plus_plus", self.rows(scores, "forget"), self.rows(scores, "holdout"))]

    def rows(self, scores: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        table = answers(scores, aim)
        columns = (without_eos(table, name) for name in ("logp", "mean", "var"))
        return -np.array(
            [
                mean_of_lowest((logp - mu) / np.sqrt(np.maximum(var, 1e-6)), self.k)
                for logp, mu, var in zip(*columns, strict=True)
            ]
        )
