"""Recall: whether the generated answer contains the fact itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.score.table import Scores


@dataclass(frozen=True)
class Recall:
    """Share of questions whose generated answer contains the bare value ("Lisbon") as whole words, whatever the case.

    Stricter and easier to read than ROUGE, which also counts the words around the fact. One result per probe set whose
    probes have values.
    """

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        known = np.array([isinstance(value, str) for value in scores.generations["value"]], dtype=bool)
        asked = scores.generations[known]
        return [
            Result.mean(
                "recall", str(probe), np.array([*map(contains, rows["generation"], rows["value"])], dtype=float)
            )
            for probe, rows in asked.groupby("probe", sort=False)
        ]


def contains(text: str, value: str) -> bool:
    """Whether `value` appears in `text` as whole words, case-insensitively."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None
