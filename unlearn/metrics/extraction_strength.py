"""Extraction strength: how little of an answer has to be given for the model to complete it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.metrics.base import MEMORISATION, Reading, Result
from unlearn.metrics.columns import clusters, without_eos

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class ExtractionStrength:
    """1 - k / n, with k the smallest number of given tokens after which all others are the most probable ones in turn.

    Carlini et al. 2021 (arXiv 2012.07805), as OpenUnlearning has it: teacher-forced, n tokens without EOS, k at most
    n - 1 (so an answer of which nothing is extracted scores 1 / n). One result per probe set, mean over its items;
    undefined where all answers have one token, which score 1 whatever the model.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "extraction_strength",
            "Extraction strength",
            MEMORISATION,
            ("forget",),
            "Share of the true answer that the model completes word for word, given the rest as its beginning.",
            "down",
            on_console=True,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        rows = tables["tokens"][tables["tokens"]["kind"] == "answer"]
        return [_result(str(probe), group) for probe, group in rows.groupby("probe", sort=False)]


def _result(probe: str, rows: pd.DataFrame) -> Result:
    hits = without_eos(rows, "hit")
    if all(len(hit) == 1 for hit in hits):
        return Result.undefined("extraction_strength", probe, "every answer is one token")
    return Result.mean("extraction_strength", probe, np.array([*map(extraction_strength, hits)]), clusters(rows))


def extraction_strength(hit: np.ndarray) -> float:
    """Return that of one answer, from whether each token [n] was the most probable one; 0 where it has none."""
    misses = np.flatnonzero(~hit)
    k = misses[-1] + 1 if len(misses) else 0
    return 1 - min(k, len(hit) - 1) / len(hit) if len(hit) else 0.0
