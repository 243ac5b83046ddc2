"""Every metric of one model, and its results as rows that can be kept in a file."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unlearn.metrics.base import Metric, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables

_NUMBERS = ("value", "low", "high")


def evaluate(metrics: Mapping[str, Metric], tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
    """Return the results of all metrics in their order.

    A metric that reads a table which is not there is undefined: one result for each of its readings, on the set that is
    called as the first of its aims. references: the tables of the original and of the control model, where they are.
    """
    results: list[Result] = []
    for metric in metrics.values():
        if lacking := sorted(metric.reads - set(tables)):
            note = f"no table {', '.join(map(repr, lacking))}: no scorer in evaluate= gives it"
            undefined = (Result.undefined(r.name, r.aims[0], note) for r in metric.reading)
            results += {result.key: result for result in reversed(list(undefined))}.values()
        else:
            results += metric(tables, references)
    return results


def readings(metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """Return how the results are shown, as JSON-able rows in the metrics' order."""
    return [asdict(reading) for metric in metrics.values() for reading in metric.reading]


def to_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return JSON-able rows with the keys name, probe, value, low, high, n, note; nan becomes None.

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
    """Return the results that `to_rows` made rows of, without their items."""
    return [Result(**{**row, **{key: math.nan if row[key] is None else row[key] for key in _NUMBERS}}) for row in rows]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
