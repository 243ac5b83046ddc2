"""Membership inference by loss beside compressed length."""

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
class MiaZlib:
    """Score of a row: its mean token loss over the bytes of its zlib-compressed text.

    Carlini et al. 2021, arXiv 2012.07805.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "mia_zlib",
            "MIA: zlib",
            MEMBERSHIP,
            ("forget",),
            "AUC of telling forgotten from unseen rows by their loss per compressed byte. 0.5, or the control "
            "model's: no trace; above: known.",
            "down",
            neutral=0.5,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        return [
            membership("mia_zlib", self.rows(tables, "forget"), self.rows(tables, "holdout"), about_answers(tables))
        ]

    def rows(self, tables: Tables, aim: str) -> np.ndarray:
        """Return the score of each row of that aim: [rows]."""
        table = answers(tables, aim)
        found: np.ndarray = -row_means(table["logp"]) / table["zlib"].to_numpy(dtype=float)
        return found
