"""What all charts share: who is drawn in which colour, panels, names and scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from unlearn.report.style import COLOURS, OTHERS, unit_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unlearn.runtime.explained import Chart

MODELS: dict[str, tuple[str, str]] = {
    **{role: (role, colour) for role, colour in COLOURS.items()},
    "placebo": ("placebo items", OTHERS[3]),
}
SIZES = {"original": 8.5, "unlearned": 6.0, "control": 3.5}  # of markers: all can be seen where they coincide
LOG = 20  # values that vary by more than this factor are shown on a logarithmic scale, where a chart allows it
Tables = Mapping[str, pd.DataFrame]


def looks(tables: Tables, chart: Chart) -> dict[str, tuple[str, str]]:
    """Return the name and the colour of each series, by its key."""
    others = [key for key in tables if key not in MODELS]
    colours = dict(zip(others, OTHERS * len(others), strict=False))
    return {key: MODELS[key] if key in MODELS else (called(chart, key), colours[key]) for key in tables}


def called(chart: Chart, name: object) -> str:
    """Return a column's or a value's name in words."""
    return chart.words.get(str(name), str(name).replace("_", " "))


def told_apart(tables: Tables, chart: Chart) -> dict[str, Tables]:
    """Return panels of series by title: one of all models, or where `series` tells apart, one for each of them."""
    if not chart.series:
        return {"": tables}
    several = len(tables) > 1
    return {
        (MODELS[key][0] if key in MODELS else key) if several else "": by_value(table, chart.series)
        for key, table in tables.items()
    }


def by_value(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return the rows of each value of a column, in order of appearance; rows without a value are left out."""
    return {str(value): rows for value, rows in table.groupby(column, sort=False)}


def panels(tables: Tables, chart: Chart) -> dict[str, Tables]:
    """Return the series of each panel, by its title."""
    found: dict[str, Tables] = {}
    for outer, series in told_apart(tables, chart).items():
        if not chart.panel:
            found[outer] = series
            continue
        parts = {key: by_value(table, chart.panel) for key, table in series.items()}
        for value in dict.fromkeys(value for part in parts.values() for value in part):
            name = chart.words.get(value) or (value if "\n" in value else f"{called(chart, chart.panel)}: {value}")
            title = f"{outer}, {name}" if outer else name
            found[title] = {key: part[value] for key, part in parts.items() if value in part}
    return found


def finite(values: Any) -> np.ndarray:
    """Return the values with nan for what is not finite, and so not drawn."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def value_scale(axes: Axes, values: np.ndarray, chart: Chart, y: str) -> None:
    """Set the scale of the vertical axis: from 0 to 1 for shares, a logarithmic one where that is wanted and needed."""
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    if y in chart.log and len(positive) and positive.max() > LOG * positive.min():
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif chart.shares:
        unit_frame(axes, "y")


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of one panel beside all of them, where it tells several things apart."""
    handles, labels = axes.get_legend_handles_labels()
    if len(set(labels) - {""}) > 1 or any(labels):
        figure.legend(handles, labels, loc="outside right upper")


def places(tables: Tables, column: str) -> list[Any]:
    """Return the values of a column in all tables: numbers ascending, names in order of appearance."""
    values = list(dict.fromkeys(value for table in tables.values() for value in table[column]))
    numeric = all(isinstance(value, (int, float, np.integer, np.floating)) for value in values)
    return sorted(values) if numeric else values
