"""What all membership inference metrics share: AUC of telling held-out rows from forget rows by a score per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import answers, clusters
from unlearn.metrics.intervals import auc_interval, basis
from unlearn.metrics.statistics import auc

if TYPE_CHECKING:
    from unlearn.score.table import Tables

Clusters = tuple[np.ndarray, np.ndarray]
"""What each of the forget and of the holdout rows is about."""


def membership(name: str, forget: np.ndarray, holdout: np.ndarray, about: Clusters) -> Result:
    """Return the AUC from scores that are high for rows that the model does not know.

    1: every forget row is better known than any held-out row (memorised); 0.5: alike; below: over-unlearned.
    items of the result: the forget rows' scores.
    """
    scores, labels = [], []
    for aim, side, of in zip(("forget", "holdout"), (forget, holdout), about, strict=True):
        valid = ~np.isnan(side)
        if not valid.any():
            return Result.undefined(name, "forget", f"no scores of a {aim} set", forget)
        scores.append(side[valid])
        labels.append(of[valid])
    ends = auc_interval(*scores, *labels)
    return Result(name, "forget", auc(*scores), *ends, len(scores[0]), forget, basis(*labels))


def about_answers(tables: Tables) -> Clusters:
    """Return what the rows of the answers are about."""
    return clusters(answers(tables, "forget")), clusters(answers(tables, "holdout"))


def mean_of_lowest(values: np.ndarray, share: float) -> float:
    """Return the mean of the lowest max(1, floor(share n)) of the values [n]; 0 where there is none."""
    if not len(values):
        return 0.0
    k = max(1, int(share * len(values)))
    return float(np.partition(values, k - 1)[:k].mean(dtype=float))
