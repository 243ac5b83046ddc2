"""Membership inference by loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import MEMBERSHIP, Reading, Result
from unlearn.metrics.columns import answers, row_means
from unlearn.metrics.membership import about_answers, membership

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class MiaLoss:
    """Score of a row: its mean token loss, EOS included (Yeom et al. 2018, arXiv 1709.01604)."""

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "mia_loss",
            "MIA: loss",
            MEMBERSHIP,
            ("forget",),
            "AUC of telling forgotten from unseen rows by their loss. 0.5, or the control model's: no trace; "
            "above: known.",
            "down",
            neutral=0.5,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        return [
            membership("mia_loss", self.rows(tables, "forget"), self.rows(tables, "holdout"), about_answers(tables))
        ]

    def rows(self, tables: Tables, aim: str) -> np.ndarray:
        """Return the score of each row of that aim: [rows]."""
        return -row_means(answers(tables, aim)["logp"])
