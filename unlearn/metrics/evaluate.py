"""Every metric of one model, and its results as rows that can be kept in a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from unlearn.metrics.base import Metric, Result
from unlearn.score.table import Scores

_NUMBERS = ("value", "low", "high")


def evaluate(metrics: Mapping[str, Metric], scores: Scores, control: Scores | None) -> list[Result]:
    """The results of all metrics in their order. `control`: the control model's scores, None where there is none."""
    return [result for metric in metrics.values() for result in metric(scores, control)]


def to_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """JSON-able rows with the keys name, probe, value, low, high, n, note; nan becomes None.

    Items are left out: they can be computed again from the score tables.
    """
    return [
        {
            "name": result.name,
            "probe": result.probe,
            **{key: _finite(getattr(result, key)) for key in _NUMBERS},
            "n": result.n,
            "note": result.note,
        }
        for result in results
    ]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Result]:
    """The results that `to_rows` made rows of, without their items."""
    return [Result(**{**row, **{key: math.nan if row[key] is None else row[key] for key in _NUMBERS}}) for row in rows]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
