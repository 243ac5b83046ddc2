"""PrivLeak: membership inference against that on a model that never saw the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le

from unlearn.metrics.base import MEMBERSHIP, Reading, Result
from unlearn.metrics.intervals import auc_interval, basis, interval
from unlearn.metrics.membership import about_answers
from unlearn.metrics.mia_min_k import MiaMinK
from unlearn.metrics.statistics import auc, auc_draws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables

EPSILON = 1e-10


@dataclass(frozen=True)
class PrivLeak:
    """100 (a - b) / (b + 1e-10), a = 1 - AUC(Min-K%) of the model and b that of the control model, 0.5 without one.

    MUSE (Shi et al. 2024, arXiv 2407.06460). -100: fully leaking; 0: like retraining; above: over-unlearned.
    """

    k: Annotated[float, Gt(0), Le(1)] = 0.4
    """Share of an answer's tokens, the lowest ones."""

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "privleak",
            "PrivLeak (%)",
            MEMBERSHIP,
            ("forget",),
            "Min-K's AUC against the control model's. 0: like it; below: leaks (−100: fully); above: over-unlearned.",
            "up",
            on_console=True,
            scale="percent",
            neutral=0.0,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        control = references.get("control")
        sides = [self._rows(table) for table in (tables, control) if table is not None]
        for name, (forget, holdout) in zip(("model", "control model"), sides, strict=False):
            if not np.isfinite(auc(forget, holdout)):
                return [Result.undefined("privleak", "forget", f"no Min-K% scores of forget and holdout rows ({name})")]
        about = about_answers(tables)
        aucs = [np.array(auc(*rows)) for rows in sides]
        low, high = interval(lambda counts: privleak(*(auc_draws(*rows, *counts) for rows in sides)), about)
        if low == high != 0:  # the model's sides do not overlap, in whatever resample
            ends = auc_interval(*sides[0], *about)
            low, high = (float(privleak(np.array(end), *aucs[1:])) for end in reversed(ends))
        return [Result("privleak", "forget", float(privleak(*aucs)), low, high, len(sides[0][0]), note=basis(*about))]

    def _rows(self, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
        attack = MiaMinK(self.k)
        return attack.rows(tables, "forget"), attack.rows(tables, "holdout")


def privleak(model: np.ndarray, control: np.ndarray | float = 0.5) -> np.ndarray:
    """Return PrivLeak from the AUCs of the model and of the control model."""
    return 100 * ((1 - model) - (1 - control)) / (1 - control + EPSILON)
