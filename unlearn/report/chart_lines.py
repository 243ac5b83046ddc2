"""Lines over an axis, one for each model, and points of one measure against another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearn.report.chart_base import SIZES, Tables, called, finite, legend, looks, panels, places, value_scale
from unlearn.report.style import DASHED, OTHERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from unlearn.runtime.explained import Chart


def lines(tables: Tables, chart: Chart) -> Figure:
    """Draw a panel for each value of `panel` and each `y`: a line for each series, the mean of rows with equal `x`."""
    groups = [
        (title, series, chart.y if chart.joined else (y,))
        for title, series in panels(tables, chart).items()
        for y in ((chart.y[0],) if chart.joined else chart.y)
    ]
    figure = Figure(figsize=(2.6 + min(max(3.6 * len(groups), 4.6), 10.5), 3.5), layout="constrained")
    row = figure.subplots(1, len(groups), squeeze=False, sharey=len(chart.y) == 1)[0]
    shown = []
    for axes, (title, series, measured) in zip(row, groups, strict=True):
        at = places(series, chart.x)
        named = not all(isinstance(value, (int, float, np.integer, np.floating)) for value in at)
        _shade(axes, series, chart)
        shown.append(
            np.concatenate([_series(axes, series, chart, y, at if named else None, i) for i, y in enumerate(measured)])
        )
        name = called(chart, measured[0]) if len(measured) == 1 else chart.words.get("y", "")
        several = len(chart.y) > 1 and not chart.joined
        axes.set_title("\n".join(part for part in (title, name if several else "") if part), parse_math=False)
        axes.set_xlabel(called(chart, chart.x))
        axes.set_ylabel("" if several else name)
        _ticks(axes, series, chart, at if named else None)
        if measured[0] in chart.levels:
            axes.axhline(chart.levels[measured[0]], color="#777777", linestyle=":", linewidth=1.2)
    together = np.concatenate(shown)
    for axes, (_, _, measured), values in zip(row, groups, shown, strict=True):
        value_scale(axes, together if len(chart.y) == 1 else values, chart, measured[0])
        if len(chart.y) == 1 and axes is not row[0]:
            axes.set_ylabel("")
    legend(figure, row[0])
    return figure


def _series(axes: Axes, series: Tables, chart: Chart, y: str, names: Sequence[Any] | None, number: int) -> np.ndarray:
    """Draw one measure of each series, and its baseline dashed and hollow; all that was drawn."""
    shown = [np.empty(0)]
    for key, (label, colour) in looks(series, chart).items():
        size = SIZES.get(key, 5.0) / 1.4
        style: Any = {"marker": "o", "markersize": size, "linewidth": size / 2, "clip_on": False, "zorder": 3}
        if chart.joined:
            label, colour = ", ".join(part for part in (label, called(chart, y)) if part), OTHERS[number % len(OTHERS)]
        x, means = _means(series[key], chart.x, y, names)
        if len(x) > 60:
            style["marker"] = ""
        if names and not all(any(map(str.isdigit, str(name))) for name in names):
            style["linestyle"] = "none"  # names without numbers have no order
        axes.plot(x, means, color=colour, label=label or None, **style)
        shown.append(means)
        if chart.baseline:
            x, means = _means(series[key], chart.x, chart.baseline, names)
            name = ", ".join(part for part in (label, called(chart, chart.baseline)) if part)
            hollow: Any = {"linestyle": DASHED, **style, "linewidth": 1.1, "markerfacecolor": "none", "label": name}
            axes.plot(x, means, color=colour, **hollow)
            shown.append(means)
    return np.concatenate(shown)


def _means(table: pd.DataFrame, x: str, y: str, names: Sequence[Any] | None) -> tuple[Any, np.ndarray]:
    """Return where the points are, and the mean of `y` there."""
    means = table.groupby(x, sort=names is None)[y].mean()
    return [names.index(value) for value in means.index] if names else means.index.to_numpy(), finite(means)


def _shade(axes: Axes, series: Tables, chart: Chart) -> None:
    """Shade the places that are marked."""
    if not chart.marked:
        return
    taken = sorted({x for table in series.values() for x in table.loc[table[chart.marked].astype(bool), chart.x]})
    for x in taken:
        label = called(chart, chart.marked) if x == taken[0] else ""
        axes.axvspan(x - 0.5, x + 0.5, color="#e9e3c9", linewidth=0, zorder=0, label=label)


def _ticks(axes: Axes, series: Tables, chart: Chart, names: Sequence[Any] | None) -> None:
    """Name the places along the axis: by the columns `ticks`, by the values where they are names, else by numbers."""
    if chart.ticks:
        there = pd.concat(list(series.values())).drop_duplicates(chart.x).sort_values(chart.x)
        first, *rest = chart.ticks
        texts = [
            "\n".join([str(row[first]), *(f"{name} = {row[name]}" for name in rest)]) for _, row in there.iterrows()
        ]
        axes.set_xticks(there[chart.x], texts, parse_math=False)
    elif names:
        step = max(1, math.ceil(len(names) / 32))
        axes.set_xticks(range(0, len(names), step), list(map(str, names))[::step], parse_math=False)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif all(pd.api.types.is_integer_dtype(table[chart.x]) for table in series.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def scatter(tables: Tables, chart: Chart) -> Figure:
    """Draw a panel for each value of `panel` and each `y`: its points against `x`, a colour for each series."""
    groups = [(title, series, y) for title, series in panels(tables, chart).items() for y in chart.y]
    figure = Figure(figsize=(2.4 + min(3.6 * len(groups), 10.5), 3.6), layout="constrained")
    row = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (title, series, y) in zip(row, groups, strict=True):
        for key, (label, colour) in looks(series, chart).items():
            axes.scatter(series[key][chart.x], series[key][y], s=16, color=colour, label=label or None, zorder=3)
        axes.set_title(title, parse_math=False)
        axes.set(xlabel=called(chart, chart.x), ylabel=called(chart, y))
    legend(figure, row[0])
    return figure
