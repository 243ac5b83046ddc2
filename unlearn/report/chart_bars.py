"""Bars side by side, one for each model or value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from unlearn.report.chart_base import Tables, called, finite, legend, looks, panels, places, value_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from unlearn.runtime.explained import Chart

WRITTEN = 60  # bars of a figure up to which their heights are written over them


def bars(tables: Tables, chart: Chart) -> Figure:
    """Draw a panel for each value of `panel`: means by `x`, or of several `y`, series side by side."""
    groups = {title: (series, _categories(series, chart)) for title, series in panels(tables, chart).items()}
    counts = [max(len(categories), 1) for _, categories in groups.values()]
    total = sum(n * len(series) for n, (series, _) in zip(counts, groups.values(), strict=True))
    width = min(2.6 + (1.1 if total <= WRITTEN else 0.35) * sum(counts), 13.0)
    figure = Figure(figsize=(max(width, 4.6), 3.3), layout="constrained")
    row = figure.subplots(1, len(groups), squeeze=False, sharey=True, width_ratios=counts)[0]
    shown = [_panel(axes, *group, chart, total <= WRITTEN) for axes, group in zip(row, groups.values(), strict=True)]
    for axes, title in zip(row, groups, strict=True):
        axes.set_title(title, parse_math=False)
        for y in chart.y:
            if y in chart.levels:
                axes.axhline(chart.levels[y], color="#777777", linestyle=":", linewidth=1.2)
    value_scale(row[0], np.concatenate([np.empty(0), *shown]), chart, chart.y[0])  # of all: they share it
    row[0].set_ylabel(called(chart, chart.y[0]) if len(chart.y) == 1 else "share, or mean")
    legend(figure, row[0])
    return figure


def _categories(series: Tables, chart: Chart) -> list[Any]:
    """Return what the bars stand for: the columns `y` where they are several, else the values of `x`."""
    if len(chart.y) > 1:
        return [y for y in chart.y if any(np.isfinite(finite(table[y])).any() for table in series.values())]
    (y,) = chart.y
    known = {key: table[table[y].notna()] for key, table in series.items()}
    return places(known, chart.x)


def _panel(axes: Axes, series: Tables, categories: Sequence[Any], chart: Chart, written: bool) -> np.ndarray:
    """Draw the bars of one panel; their heights."""
    width, shown = 0.84 / max(len(series), 1), []
    for i, (key, (label, colour)) in enumerate(looks(series, chart).items()):
        table = series[key]
        at = np.arange(len(categories)) + width * (i - (len(series) - 1) / 2)
        heights = _means(table, chart, categories, chart.y[0])
        style: Any = {"color": colour, "label": label or None}
        if chart.marked:
            taken = _means(
                table.assign(**{chart.marked: table[chart.marked].astype(float)}), chart, categories, chart.marked
            )
            style["color"] = [colour if mark > 0 else pale(colour) for mark in taken]
        if chart.low and chart.high:
            low, high = (_means(table, chart, categories, end) for end in (chart.low, chart.high))
            style["yerr"] = np.nan_to_num([heights - low, high - heights]).clip(0)
            style["error_kw"] = {"elinewidth": 1, "ecolor": "#333333"}
        axes.bar(at, heights, width * 0.92, **style)
        if written:
            _write(axes, at, heights)
        shown.append(heights)
    names = [called(chart, category) for category in categories]
    step = max(1, math.ceil(len(names) / 32))
    axes.set_xticks(range(0, len(names), step), names[::step], parse_math=False)
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
    axes.set_xlabel(called(chart, chart.x) if len(chart.y) == 1 and chart.x else "")
    axes.grid(axis="x", visible=False)
    axes.axhline(0, color="#444444", linewidth=0.8)
    return np.concatenate([np.empty(0), *shown])


def _means(table: pd.DataFrame, chart: Chart, categories: Sequence[Any], column: str) -> np.ndarray:
    """Return the mean of the column in each category."""
    if len(chart.y) > 1:
        return finite([table[category].mean() for category in categories])
    return finite(table.groupby(chart.x)[column].mean().reindex(list(categories)))


def _write(axes: Axes, at: np.ndarray, heights: np.ndarray) -> None:
    for x, height in zip(at, heights, strict=True):
        if math.isfinite(height):
            style: Any = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": "#555555"}
            axes.text(x, max(height, 0.0), f"{height:.2f}".removeprefix("0"), **style)


def pale(colour: str) -> tuple[float, float, float]:
    """Return a colour mixed with white: what is not marked."""
    red, green, blue = (0.25 * part + 0.75 for part in to_rgb(colour))
    return red, green, blue
