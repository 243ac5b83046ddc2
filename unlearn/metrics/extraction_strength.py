"""Extraction strength: how little of an answer has to be given for the model to complete it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import without_eos
from unlearn.score.table import Scores


@dataclass(frozen=True)
class ExtractionStrength:
    """1 - k / n, with k the smallest number of given tokens after which all others are the most probable ones in turn.

    Carlini et al. 2021 (arXiv 2012.07805), as OpenUnlearning has it: teacher-forced, n tokens without EOS, k at most
    n - 1 (so an answer of which nothing is extracted scores 1 / n). One result per probe set, mean over its items;
    undefined where all answers have one token, which score 1 whatever the model.
    """

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        rows = scores.tokens[scores.tokens["kind"] == "answer"]
        return [_result(str(probe), without_eos(group, "hit")) for probe, group in rows.groupby("probe", sort=False)]


def _result(probe: str, hits: list[np.ndarray]) -> Result:
    if all(len(hit) == 1 for hit in hits):
        return Result.undefined("extraction_strength", probe, "every answer is one token")
    return Result.mean("extraction_strength", probe, np.array([*map(extraction_strength, hits)]))


def extraction_strength(hit: np.ndarray) -> float:
    """Of one answer, from whether each token [n] was the most probable one; 0 where it has no token."""
    misses = np.flatnonzero(~hit)
    k = misses[-1] + 1 if len(misses) else 0
    return 1 - min(k, len(hit) - 1) / len(hit) if len(hit) else 0.0
