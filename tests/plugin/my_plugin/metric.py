"""A metric: a pure function of the score tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from unlearn.metrics.base import Reading, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class AnswerLength:
    """How long greedy answers are."""

    unit: Literal["words", "characters"] = "words"
    """What is counted: words or characters."""

    reads: ClassVar[frozenset[str]] = frozenset({"generations"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading("answer_length", "Answer length", "Style", ("forget",), "How long answers are.", "up"),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the mean length of the answers to each probe set."""
        results = []
        for probe, rows in tables["generations"].groupby("probe", sort=False):
            lengths = np.array([self._length(text) for text in rows["generation"]])
            results.append(Result.mean("answer_length", str(probe), lengths, rows["cluster"].to_numpy(), (0, math.inf)))
        return results

    def _length(self, text: str) -> float:
        return float(len(text.split() if self.unit == "words" else text))
