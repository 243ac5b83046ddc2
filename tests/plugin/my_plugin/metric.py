"""A metric: a pure function of the score tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.metrics.base import Reading, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class AnswerLength:
    """How long greedy answers are."""

    unit: str = "words"
    """words or characters."""

    reads: ClassVar[frozenset[str]] = frozenset({"generations"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading("answer_length", "Answer length", "Style", ("forget",), "How long answers are.", "up"),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the mean length of the answers to each probe set."""
        return [
            Result.mean("answer_length", str(probe), np.array([self._length(text) for text in rows["generation"]]))
            for probe, rows in tables["generations"].groupby("probe", sort=False)
        ]

    def _length(self, text: str) -> float:
        return float(len(text.split() if self.unit == "words" else text))
