"""Membership inference by loss beside that of a model that never saw the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.membership import membership
from unlearn.metrics.mia_loss import MiaLoss
from unlearn.score.table import Scores


@dataclass(frozen=True)
class MiaReference:
    """Score of a row: its mean token loss minus that under the control model (Carlini et al. 2021, arXiv
    2012.07805)."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        if control is None:
            return [Result.undefined("mia_reference", "forget", "no control model")]
        return [
            membership("mia_reference", self.rows(scores, control, "forget"), self.rows(scores, control, "holdout"))
        ]

    def rows(self, scores: Scores, control: Scores, aim: str) -> np.ndarray:
        """The score of each row of that role: [rows]."""
        found: np.ndarray = MiaLoss().rows(scores, aim) - MiaLoss().rows(control, aim)
        return found
