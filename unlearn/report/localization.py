"""Figures of a localization: where the selected weights are, and the tables that led there."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from unlearn.models.parameters import TYPES
from unlearn.report import charts
from unlearn.report.style import AMOUNT, Drawn, heat_map, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar

    from unlearn.report.localization_folder import Localization

WRITTEN = 40  # layers up to which every cell has its number written in it


def figures(found: Localization) -> dict[str, Drawn]:
    """Return the figures that this localization has data for, by name."""
    drawn = {}
    if found.shares:
        words = (
            "Per cent of each module type's weights, layer by layer, that unlearning may change. The middle colour is "
            f"the whole model's {percent(found.fraction)}: darker cells hold more than that, paler ones less."
        )
        drawn["localize-selected"] = Drawn("Localization: the selected weights", words, selected(found))
    for name, table in found.explained().items():
        if figure := charts.drawn({"": table}, name):
            drawn[f"localize-{name}"] = figure
    return drawn


@styled
def selected(found: Localization) -> Figure:
    """Share of selected weights by module type (rows) and layer (columns), with sums; below, what is in no layer."""
    table = pd.DataFrame([asdict(share) for share in found.shares])
    inside, outside = table[table["layer"].notna()], table[table["layer"].isna()].assign(layer=0)
    grids = {}
    if len(inside):
        grids["layer"] = _shares(inside, sums=True)
    if len(outside):
        grids["outside the layers"] = _shares(outside, sums=False)
    columns = max(grid.shape[1] for grid in grids.values())
    size = min(12.5, 4.0 + 0.32 * columns), 1.2 + 0.3 * sum(map(len, grids.values()))
    figure = Figure(figsize=size, layout="constrained")
    norm = _half_way_at(found.fraction)
    heights = [len(grid) for grid in grids.values()]
    panels = figure.subplots(len(grids), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (where, grid) in zip(panels, grids.items(), strict=True):
        values = grid.to_numpy()
        texts = [["" if math.isnan(share) else percent(share)[:-1] for share in row] for row in values]
        image = heat_map(axes, values, list(grid.index), AMOUNT, norm, texts if columns <= WRITTEN + 1 else ())
        axes.set_xlabel(where)
        if where == "layer":
            _layer_ticks(axes, len(values[0]) - 1, last="all")
            axes.axvline(len(values[0]) - 1.5, color="white", linewidth=5)
            axes.axhline(len(values) - 1.5, color="white", linewidth=5)
        else:
            axes.set_xticks([])
    ticks = [float(norm.inverse(place)) for place in (0, 0.25, 0.5, 0.75, 1)]
    bar = figure.colorbar(image, ax=list(panels), ticks=ticks, pad=0.02, label="selected")
    bar.ax.set_yticks(ticks, [percent(tick) for tick in ticks])
    _plain(bar)
    return figure


def _shares(table: pd.DataFrame, sums: bool) -> pd.DataFrame:
    """Return the share of weights selected by type and layer, nan where there are none; with `sums`, "all" last."""
    types = [kind for kind in TYPES if kind in set(table["type"])]
    layers = range(int(table["layer"].max()) + 1)
    counts = []
    for name in ("selected", "total"):
        grid = table.pivot_table(index="type", columns="layer", values=name, aggfunc="sum")
        grid = grid.reindex(index=types, columns=layers, fill_value=0).fillna(0.0)
        if sums:
            grid.loc["all"] = grid.sum()
            grid["all"] = grid.sum(axis=1)
        counts.append(grid)
    return (counts[0] / counts[1].where(counts[1] > 0)).astype(float)


def _half_way_at(fraction: float) -> PowerNorm:
    """Colours from 0 to 1 whose middle is `fraction`, so that differences show in sparse and in dense masks alike."""
    return PowerNorm(math.log(0.5) / math.log(min(max(fraction, 0.01), 0.97)), 0, 1)


def _layer_ticks(axes: Axes, layers: int, last: str) -> None:
    """Numbers under the layers, not all where they are many, and a name under the column behind them."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if layers / step <= 42)
    axes.set_xticks([*range(0, layers, step), layers], [*map(str, range(0, layers, step)), last])


def _plain(bar: Colorbar) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.ax.grid(visible=False)
