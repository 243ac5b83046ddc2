"""Exact memorization: how much of an answer the model would say word for word."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.metrics.base import Result
from unlearn.metrics.columns import row_means, without_eos
from unlearn.score.table import Scores


@dataclass(frozen=True)
class ExactMemorization:
    """Share of the answer's tokens (EOS left out) that are the most probable ones given the true text before them.

    Tirumala et al. 2022 (arXiv 2205.10770), as OpenUnlearning has it. One result per probe set, mean over its items.
    """

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        rows = scores.tokens[scores.tokens["kind"] == "answer"]
        return [
            Result.mean("exact_memorization", str(probe), row_means(without_eos(group, "hit")))
            for probe, group in rows.groupby("probe", sort=False)
        ]
