"""A metric: a pure function of the score tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.score.table import Scores


@dataclass(frozen=True)
class AnswerLength:
    """How long greedy answers are."""

    unit: str = "words"
    """words or characters."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        """Return the mean length of the answers to each probe set."""
        return [
            Result.mean("answer_length", str(probe), np.array([self._length(text) for text in rows["generation"]]))
            for probe, rows in scores.generations.groupby("probe", sort=False)
        ]

    def _length(self, text: str) -> float:
        return float(len(text.split() if self.unit == "words" else text))
