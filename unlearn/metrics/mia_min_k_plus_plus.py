"""Membership inference by the tokens least probable for their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le

from unlearn.metrics.base import MEMBERSHIP, Reading, Result
from unlearn.metrics.columns import answers, without_eos
from unlearn.metrics.membership import about_answers, mean_of_lowest, membership

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class MiaMinKPlusPlus:
    """Min-K% over standardised log-probabilities z = (log p - mu) / sqrt(max(var, 1e-6)).

    mu and var are those of log p under the model's own next-token distribution (Min-K%++, Zhang et al. 2024, arXiv
    2404.02936).
    """

    k: Annotated[float, Gt(0), Le(1)] = 0.4
    """Share of an answer's tokens, the lowest ones."""

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "mia_min_k_plus_plus",
            "MIA: Min-K++",
            MEMBERSHIP,
            ("forget",),
            "AUC of telling forgotten from unseen rows by their least likely tokens, standardised. 0.5, or the "
            "control model's: no trace; above: known.",
            "down",
            neutral=0.5,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        return [
            membership(
                "mia_min_k_plus_plus", self.rows(tables, "forget"), self.rows(tables, "holdout"), about_answers(tables)
            )
        ]

    def rows(self, tables: Tables, aim: str) -> np.ndarray:
        """Return the score of each row of that aim: [rows]."""
        table = answers(tables, aim)
        columns = (without_eos(table, name) for name in ("logp", "mean", "var"))
        return -np.array(
            [
                mean_of_lowest((logp - mu) / np.sqrt(np.maximum(var, 1e-6)), self.k)
                for logp, mu, var in zip(*columns, strict=True)
            ]
        )
