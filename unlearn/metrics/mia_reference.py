"""Membership inference by loss beside that of a model that never saw the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import MEMBERSHIP, Reading, Result
from unlearn.metrics.membership import about_answers, membership
from unlearn.metrics.mia_loss import MiaLoss

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class MiaReference:
    """Score of a row: its mean token loss minus that under the control model.

    Carlini et al. 2021, arXiv 2012.07805.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "mia_reference",
            "MIA: reference",
            MEMBERSHIP,
            ("forget",),
            "AUC of telling forgotten from unseen rows by their loss beside a reference model's. 0.5, or the "
            "control model's: no trace; above: known.",
            "down",
            neutral=0.5,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        control = references.get("control")
        if control is None:
            return [Result.undefined("mia_reference", "forget", "no control model")]
        return [
            membership(
                "mia_reference",
                self.rows(tables, control, "forget"),
                self.rows(tables, control, "holdout"),
                about_answers(tables),
            )
        ]

    def rows(self, tables: Tables, control: Tables, aim: str) -> np.ndarray:
        """Return the score of each row of that aim: [rows]."""
        found: np.ndarray = MiaLoss().rows(tables, aim) - MiaLoss().rows(control, aim)
        return found
