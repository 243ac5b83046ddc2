"""Heat maps by row and layer, with bars where there are no rows, and rankings."""

from __future__ import annotations

import math
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from unlearn.report.chart_base import Tables, by_value, called, looks
from unlearn.report.style import AMOUNT, COLOURS, DASHED, OTHERS, SIGNED, heat_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from unlearn.runtime.explained import Chart

WRITTEN = 24  # columns up to which the numbers are written into the cells of heat maps
STRONGEST = 20  # rows of a ranking
MORE, LESS = OTHERS[0], OTHERS[1]
Part = tuple[str, str, pd.DataFrame]  # title, its colour, rows


def heatmap(tables: Tables, chart: Chart) -> Figure:
    """Draw `z` by `x` and row: a panel for each model or value of `panel`, a band of them for each value of `band`."""
    bands = {"": tables}
    if chart.band:
        (_, table), *_ = tables.items()
        bands = {value: {"": rows} for value, rows in list(by_value(table, chart.band).items())[:2]}
    parts = {title: _parts(of, chart) for title, of in bands.items()}
    across = chart.band != ""
    heights = [_height(of, chart, across) for of in parts.values()]
    columns = max(_count(rows[chart.x]) for of in parts.values() for _, _, rows in of)
    most = max(map(len, parts.values()))
    width = 4.2 + 2.7 * most if across else min(12.5, (4.2 if len(tables) > 1 or most == 1 else 7.5) + 0.3 * columns)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    rows = figure.subfigures(len(bands), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, (title, of) in zip(rows, parts.items(), strict=True):
        if title:
            row.suptitle(shorten(called(chart, title), 110), fontsize=9.5, parse_math=False)
        _band(row, of, chart, across)
    return figure


def _parts(tables: Tables, chart: Chart) -> list[Part]:
    """Return the panels of one band, in order."""
    if not chart.panel:
        return [(label, colour, tables[key]) for key, (label, colour) in looks(tables, chart).items()]
    several = len(tables) > 1
    return [
        (f"{label}, {called(chart, value)}" if several else called(chart, value), "#000000", rows)
        for key, (label, _) in looks(tables, chart).items()
        for value, rows in by_value(tables[key], chart.panel).items()
    ]


def _height(parts: Sequence[Part], chart: Chart, across: bool) -> float:
    """Return a band's height in inches."""
    panels = [0.9 + 0.26 * min(max(rows[chart.y[0]].nunique(), 5 if chart.panel else 1), 14) for _, _, rows in parts]
    if across:
        return max(panels) + 0.3
    if not chart.panel:
        return sum(panels) + 0.3
    return max(panels) * math.ceil((len(parts) + _checked(parts, chart)) / 2)


def _checked(parts: Sequence[Part], chart: Chart) -> bool:
    """Return whether any estimate was checked."""
    return bool(chart.exact) and any(rows[chart.exact].notna().any() for _, _, rows in parts)


def _band(row: SubFigure, parts: Sequence[Part], chart: Chart, across: bool) -> None:
    """Draw the panels of one band on one scale (each on its own where they are of different things)."""
    checked = _checked(parts, chart)
    n = len(parts) + checked
    shape = (1, n) if across else (math.ceil(n / 2), min(n, 2)) if chart.panel else (n, 1)
    every = list(row.subplots(*shape, squeeze=False, sharey=across).flat)
    grids = [rows for _, _, rows in parts if rows[chart.y[0]].notna().any()]
    together = pd.concat(grids) if grids and (across or not chart.panel) else None
    shared = None if together is None else _norm(together, chart)
    image: Any = None
    for axes, (title, colour, rows) in zip(every, parts, strict=False):
        if rows[chart.y[0]].notna().any():
            image = _cells(axes, rows, chart, shared or _norm(rows, chart), rows if together is None else together)
            if shared is None:
                _colorbar(row, image, [axes], "")
        else:
            _bars(axes, rows, chart)
        axes.set_title(title, color=colour, loc="left" if title in COLOURS else "center", parse_math=False)
        axes.set_xlabel(called(chart, chart.x))
    if shared is not None:
        _colorbar(row, image, every[: len(parts)], called(chart, chart.z))
    for axes in every[n:]:
        axes.set_axis_off()
    if checked:
        _against_exact(every[len(parts)], parts, chart)


def _norm(rows: pd.DataFrame, chart: Chart) -> Normalize:
    values = rows[[chart.z, chart.exact] if chart.exact else [chart.z]].to_numpy(float)
    values = values[np.isfinite(values)]
    if chart.signed:
        return CenteredNorm(halfrange=float(np.abs(values).max(initial=0.0)) or 1.0)
    top = values.max(initial=0.0)
    return Normalize(float(values.min(initial=0.0)), float(top) if top > 0 else 1.0)


def _cells(axes: Axes, rows: pd.DataFrame, chart: Chart, norm: Normalize, whole: pd.DataFrame) -> Any:
    """Draw one heat map: numbers where they fit, dots where the interval includes 0, rings for what is exact.

    whole: the rows of all panels that share the scale, and so the places.
    """
    (row,) = chart.y
    numeric = pd.api.types.is_numeric_dtype(whole[row])
    numbered = numeric and not chart.ticks
    names_of = list(dict.fromkeys(whole[row]))
    order = list(range(_count(whole[row]))) if numbered else sorted(names_of) if numeric else names_of
    grid = rows.pivot_table(index=row, columns=chart.x, values=chart.z, aggfunc="mean")
    values = grid.reindex(index=order, columns=range(_count(whole[chart.x]))).to_numpy(dtype=float)
    colours = SIGNED if chart.signed else AMOUNT
    short = [["" if math.isnan(v) else f"{v:.2f}".lstrip("0") for v in line] for line in values]
    written = values.shape[1] <= WRITTEN and not chart.signed
    first = whole.drop_duplicates(row).set_index(row)
    names = [] if numbered else [_shown(str(first[chart.ticks[0]][at] if chart.ticks else at)) for at in order]
    image = heat_map(axes, values, names, colours, norm, short if written else ())
    if chart.marked:
        for label, at in zip(axes.get_yticklabels(), order, strict=False):
            if first[chart.marked][at]:
                label.set(color=MORE, fontweight="bold")
    if chart.low and chart.high:
        unsure = rows[(rows[chart.low] <= 0) & (rows[chart.high] >= 0)]
        if len(unsure):
            axes.scatter(unsure[chart.x], unsure[row].map(order.index), s=3, color="#777777", linewidths=0)
    if chart.exact:
        exact = rows[rows[chart.exact].notna()]
        ring: Any = {"s": 22, "edgecolors": "#222222", "linewidths": 0.8}
        axes.scatter(exact[chart.x], exact[row], c=exact[chart.exact], cmap=colours, norm=norm, **ring)
    if numbered:
        axes.set_ylabel(called(chart, row))
    return image


def _bars(axes: Axes, rows: pd.DataFrame, chart: Chart) -> None:
    """Draw a bar for each place, with its interval; what is exact as diamonds."""
    reach = None
    if chart.low and chart.high:
        reach = np.nan_to_num([rows[chart.z] - rows[chart.low], rows[chart.high] - rows[chart.z]]).clip(0)
    style: Any = {"elinewidth": 1, "ecolor": "#333333"}
    axes.bar(rows[chart.x], rows[chart.z], 0.8, color=MORE, yerr=reach, error_kw=style)
    if chart.exact:
        marks: Any = {"color": "white", "markeredgecolor": "#222222", "markersize": 4, "zorder": 3}
        axes.plot(rows[chart.x], rows[chart.exact], "D", **marks)
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(called(chart, chart.z))


def _against_exact(axes: Axes, parts: Sequence[Part], chart: Chart) -> None:
    """Draw estimates (x) against what is exact (y) where that is known, with the line where both are equal."""
    for (title, _, rows), colour in zip(parts, OTHERS * len(parts), strict=False):
        known = rows[rows[chart.exact].notna()]
        if len(known):
            axes.scatter(known[chart.z], known[chart.exact], s=16, color=colour, label=title, zorder=3)
    axes.axline((0, 0), slope=1, color="#999999", linestyle=DASHED, linewidth=1)
    axes.set(title="Estimate and exact effect", xlabel="estimate", ylabel="exact")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.legend(loc="best", fontsize=8)


def ranking(tables: Tables, chart: Chart) -> Figure:
    """Draw the rows of the largest |z| as horizontal bars, named by `x` and `y`: a panel for each model."""
    strongest = {
        key: table.loc[table[chart.z].abs().sort_values(ascending=False, kind="stable").index[:STRONGEST]]
        for key, table in tables.items()
    }
    longest = max(map(len, strongest.values()))
    figure = Figure(figsize=(1.5 + 6.0 * len(tables), 1.0 + 0.22 * longest), layout="constrained")
    row = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (key, (label, _)) in zip(row, looks(tables, chart).items(), strict=True):
        table = strongest[key]
        axes.barh(range(len(table)), table[chart.z], color=[MORE if z > 0 else LESS for z in table[chart.z]])
        names = [" → ".join(map(str, values)) for values in zip(*(table[c] for c in (chart.x, *chart.y)), strict=True)]
        axes.set_yticks(range(len(table)), names, parse_math=False)
        axes.invert_yaxis()
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(called(chart, chart.z))
        axes.set_title(label, parse_math=False)
    return figure


def _colorbar(row: SubFigure, image: Any, axes: Sequence[Axes], label: str) -> None:
    bar = row.colorbar(image, ax=list(axes), pad=0.02, label=label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.ax.grid(visible=False)


def _count(numbers: pd.Series) -> int:
    """Return how many there are, counted from 0."""
    return int(numbers.max()) + 1


def _shown(text: str) -> str:
    """Return a text as a label: what cannot be seen is made so."""
    return repr(text)[1:-1] if text.strip() else repr(text)
