"""Membership inference by gradient norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.membership import membership
from unlearn.score.table import Scores


@dataclass(frozen=True)
class MiaGradnorm:
    """Score of a row: the mean over parameter tensors of the L2 norm of its loss's gradient (after Nasr et al. 2019,
    arXiv 1812.00910). Needs `evaluate.gradients=true`: one backward pass for each forget and holdout row."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        if scores.gradients.empty:
            return [
                Result.undefined("mia_gradnorm", "forget", "no gradient norms were taken (evaluate.gradients=true)")
            ]
        return [membership("mia_gradnorm", self.rows(scores, "forget"), self.rows(scores, "holdout"))]

    def rows(self, scores: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        gradients = scores.gradients
        return gradients.loc[gradients["aim"] == aim, "gradnorm"].to_numpy(dtype=float)
