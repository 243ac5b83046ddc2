"""Tables that explain themselves as figures: each kind of chart, whatever the table is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.report.chart_bars import bars
from unlearn.report.chart_grids import heatmap, ranking
from unlearn.report.chart_lines import lines, scatter
from unlearn.report.style import Drawn, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from matplotlib.figure import Figure

    from unlearn.runtime.explained import Chart, Explained, Kind

DRAW: dict[Kind, Callable[[Mapping[str, pd.DataFrame], Chart], Figure]] = {
    "line": lines,
    "bar": bars,
    "heatmap": heatmap,
    "scatter": scatter,
    "ranking": ranking,
}


@styled
def draw(tables: Mapping[str, pd.DataFrame], chart: Chart) -> Figure:
    """Draw one table of several models (or runs), by their names; a table of no model in particular is named ""."""
    return DRAW[chart.kind](tables, chart)


def drawn(tables: Mapping[str, Explained], name: str, of: str = "") -> Drawn | None:
    """Draw a table that several models have, None where no model's has rows and a chart.

    name: the table's. of: who made it, told in the title.
    """
    there = {key: table for key, table in tables.items() if table.chart and len(table.frame)}
    if not there:
        return None
    first = next(iter(there.values()))
    assert first.chart is not None
    title = first.title or name.replace("_", " ")
    figure = draw({key: table.frame for key, table in there.items()}, first.chart)
    return Drawn(f"{title}: {of}" if of else title, first.words, figure)
