"""Membership inference by gradient norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import MEMBERSHIP, Reading, Result
from unlearn.metrics.columns import clusters
from unlearn.metrics.membership import membership

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class MiaGradnorm:
    """Score of a row: the mean over parameter tensors of the L2 norm of its loss's gradient.

    After Nasr et al. 2019, arXiv 1812.00910. Needs the table of gradients (`evaluate=full`).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"gradients"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "mia_gradnorm",
            "MIA: gradient norm",
            MEMBERSHIP,
            ("forget",),
            "AUC of telling forgotten from unseen rows by their gradient norm. 0.5, or the control model's: no "
            "trace; above: known.",
            "down",
            neutral=0.5,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        gradients = tables["gradients"]
        if gradients.empty:
            return [Result.undefined("mia_gradnorm", "forget", "no gradient norms were taken (evaluate=full)")]
        forget, holdout = (clusters(gradients[gradients["aim"] == aim]) for aim in ("forget", "holdout"))
        return [
            membership("mia_gradnorm", self.rows(tables, "forget"), self.rows(tables, "holdout"), (forget, holdout))
        ]

    def rows(self, tables: Tables, aim: str) -> np.ndarray:
        """Return the score of each row of that aim: [rows]."""
        gradients = tables["gradients"]
        return gradients.loc[gradients["aim"] == aim, "gradnorm"].to_numpy(dtype=float)
