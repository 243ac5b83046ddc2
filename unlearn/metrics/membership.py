"""What all membership inference metrics share: AUC of telling held-out rows from forget rows by a score per row."""

from __future__ import annotations

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.statistics import auc, bootstrap_auc


def membership(name: str, forget: np.ndarray, holdout: np.ndarray) -> Result:
    """Return the AUC from scores that are high for rows that the model does not know.

    1: every forget row is better known than any held-out row (memorised); 0.5: alike; below: over-unlearned.
    items of the result: the forget rows' scores.
    """
    forget_found, holdout_found = (rows[~np.isnan(rows)] for rows in (forget, holdout))
    for rows, aim in ((forget_found, "forget"), (holdout_found, "holdout")):
        if not len(rows):
            return Result.undefined(name, "forget", f"no scores of a {aim} set", forget)
    value, interval = auc(forget_found, holdout_found), bootstrap_auc(forget_found, holdout_found)
    return Result(name, "forget", value, *interval, len(forget_found), forget)


def mean_of_lowest(values: np.ndarray, share: float) -> float:
    """Return the mean of the lowest max(1, floor(share n)) of the values [n]; 0 where there is none."""
    if not len(values):
        return 0.0
    k = max(1, int(share * len(values)))
    return float(np.partition(values, k - 1)[:k].mean(dtype=float))
