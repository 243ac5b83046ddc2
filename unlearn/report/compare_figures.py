"""Figures of a comparison: who is on the front of forgetting and utility, and what attacks leave of each run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unlearn.report import charts
from unlearn.report.attack_tables import tables
from unlearn.report.compared import UNDEFINED, WORST_LEAK, Row
from unlearn.report.pareto import Point, pareto
from unlearn.report.style import Drawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.report.folder import Run
    from unlearn.report.headline import Line
    from unlearn.runtime.explained import Explained

MOST = 8  # runs that are drawn side by side
AXES = ("forgetting", "utility")
PARETO = "Whoever is up and to the right of another is better on both. The dashed line joins those that no other beats."


def fronts(rows: Sequence[Row], lines: Sequence[Line], comparable: bool) -> list[Drawn]:
    """Return, by task, the Pareto plots whose two metrics are there; that of the leaks where they are comparable."""
    made = []
    axes = {axis: [line for line in lines if line.first and line.reading.axis == axis] for axis in AXES}
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        pooled = {row.setting for row in mine if row.kind == "pooled"}
        shown = [row for row in mine if not (row.kind == "run" and row.setting in pooled)]
        utility = next((line.key for line in axes["utility"] if _has(shown, line.key)), None)
        for line in sorted(axes["forgetting"], key=lambda line: line.group == WORST_LEAK.group):
            if utility and _has(shown, line.key) and (comparable or line.group != WORST_LEAK.group):
                points = [
                    Point(row.kind, _label(row), row.values[utility], row.values[line.key])
                    for row in shown
                    if {utility, line.key} <= row.values.keys()
                ]
                figure = pareto(points, line.key, utility, title=task, quality=line.reading.direction == "up")
                made.append(Drawn(f"Pareto plot, {task}", PARETO, figure))
    return made


def _label(row: Row) -> str:
    return f"{row.setting} ({len(row.seeds)} seeds)" if row.kind == "pooled" else row.setting


def _has(rows: Sequence[Row], key: str) -> bool:
    """Whether an unlearned model has a defined value of that metric."""
    return any(row.kind in ("run", "pooled") and not math.isnan(row.values.get(key, UNDEFINED)[0]) for row in rows)


def attacked(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Drawn]:
    """Return the figures of the tables that attacks left of several runs' unlearned models, by attack and table.

    labels: what the runs are called. A table is drawn as it says, of the first MOST runs that have it.
    """
    found: dict[tuple[str, str], dict[str, Explained]] = {}
    for run, label in zip(runs, labels, strict=True):
        for attack in run.attacks.attacks if run.attacks else ():
            for name, of in tables(run.attacks, attack).items() if run.attacks else ():
                if "unlearned" in of:
                    found.setdefault((attack, name), {})[label] = of["unlearned"]
    drawn = {}
    for (attack, name), of_runs in found.items():
        shown = dict(list(of_runs.items())[:MOST])
        if len(shown) > 1 and (figure := charts.drawn(shown, name, f"{attack}, unlearned models")):
            drawn[f"attack-{attack}-{name}"] = figure
    return drawn
