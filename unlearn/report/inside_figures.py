"""Figures of the tables that single attacks leave: what the models do by layer, step, turn, distance or question."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from unlearn.attacks.prompts.membership import PRIVLEAK, placements
from unlearn.attacks.prompts.multihop import RIGHT
from unlearn.leak.record import Trial
from unlearn.report.style import AMOUNT, COLOURS, DASHED, OTHERS, accuracy_by_layer, heat_map, styled, unit_frame

TRIALS: dict[Trial, tuple[str, str]] = {
    "original": ("original", COLOURS["original"]),
    "unlearned": ("unlearned", COLOURS["unlearned"]),
    "control": ("control", COLOURS["control"]),
    "placebo": ("placebo items", OTHERS[3]),
}
SIZES = {"original": 8.5, "unlearned": 6.0, "control": 3.5}  # of markers: all can be seen where they coincide
LEVELS = {  # of the ladder of contexts
    "C0": "nothing",
    "C1": "facts",
    "C2": "questions",
    "C3": "new name",
    "C4": "hint",
    "C5": "answer",
}
LOG = 20  # a loss that varies by more than this factor is shown on a logarithmic scale
PERCENT = "{x:.0%}"
Tables = Mapping[Trial, pd.DataFrame]


def _finite(values: Any) -> np.ndarray:
    """What is not finite is not drawn."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def _line(axes: Axes, trial: Trial, x: Any, y: Any, control: str = "", **style: Any) -> None:
    """A model's line, wider for those that are drawn first; dashed and hollow for its `control`, which is named so."""
    name, colour = TRIALS[trial]
    size = SIZES.get(trial, 3.5) / 1.4
    looks: Any = {"color": colour, "marker": "o", "markersize": size, "linewidth": size / 2, "label": name}
    if control:
        looks |= {"linestyle": DASHED, "linewidth": 1.1, "markerfacecolor": "none", "label": f"{name}, {control}"}
    axes.plot(x, _finite(y), clip_on=False, zorder=3, **looks | style)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure) -> None:
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")


def _parts(tables: Tables, column: str) -> dict[str, Tables]:
    """The rows of each value of a column, for all models."""
    values = dict.fromkeys(value for table in tables.values() for value in table[column])
    return {str(value): {trial: table[table[column] == value] for trial, table in tables.items()} for value in values}


def _lines(panels: Mapping[str, tuple[Tables, str]], x: str, ylabel: str) -> Figure:
    """A panel for each title, tables and column: a line for each model over `x`, the mean of rows with equal x."""
    figure = Figure(figsize=(2.6 + min(3.6 * len(panels), 10.0), 3.4), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (tables, y)) in zip(row, panels.items(), strict=True):
        for trial, table in tables.items():
            means = table.groupby(x)[y].mean()
            _line(axes, trial, means.index.to_numpy(), means)
        axes.set_title(title, parse_math=False)
        axes.set_xlabel(x)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        unit_frame(axes, "y")
    row[0].set_ylabel(ylabel)
    _legend(figure)
    return figure


def _bars(panels: Mapping[str, pd.DataFrame], ylabel: str) -> Figure:
    """A panel for each title: bars as high as the table's cells, rows side by side, by model (columns)."""
    counts = [len(table) for table in panels.values()]
    figure = Figure(figsize=(2.4 + 1.1 * sum(counts), 3.2), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=counts)[0]
    for axes, (title, table) in zip(row, panels.items(), strict=True):
        width = 0.84 / len(table.columns)
        for i, trial in enumerate(table.columns):
            name, colour = TRIALS[trial]  # type: ignore[index]
            places = np.arange(len(table)) + width * (i - (len(table.columns) - 1) / 2)
            heights = _finite(table[trial])
            axes.bar(places, heights, width * 0.92, color=colour, label=name)
            for x, height in zip(places, heights, strict=True):
                if math.isfinite(height):
                    style: Any = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": "#555555"}
                    axes.text(x, max(height, 0.0) + 0.01, f"{height:.2f}".removeprefix("0"), **style)
        axes.set_xticks(range(len(table)), table.index, parse_math=False)
        axes.set_title(title, parse_math=False)
        axes.set_xlim(-0.5, len(table) - 0.5)
        axes.grid(axis="x", visible=False)
    unit_frame(row[0], "y")  # of all: they share it
    row[0].set_ylabel(ylabel)
    _legend(figure)
    return figure


@styled
def probe(tables: Tables) -> Figure:
    """Accuracy of a linear probe of each layer, for each model; dashed: with shuffled labels."""
    layers = max(int(table["layer"].max()) + 1 for table in tables.values())
    figure = Figure(figsize=(min(11.0, 6.2 + 0.12 * layers), 3.4), layout="constrained")
    axes = figure.subplots()
    for trial, table in tables.items():
        by_layer = table.groupby("layer")[["accuracy", "control"]].mean()
        _line(axes, trial, by_layer.index.to_numpy(), by_layer["accuracy"])
        _line(axes, trial, by_layer.index.to_numpy(), by_layer["control"], "shuffled labels", marker="")
    accuracy_by_layer(axes)
    return figure


@styled
def lens(tables: Tables) -> Figure:
    """Score of the answer by stream (rows) and layer (columns), a panel for each model, on one scale."""
    streams = list(dict.fromkeys(stream for table in tables.values() for stream in table["stream"]))
    layers = max(int(table["layer"].max()) + 1 for table in tables.values())
    height = len(tables) * (0.55 + 0.28 * len(streams)) + 0.5
    figure = Figure(figsize=(min(12.0, 4.2 + 0.34 * layers), height), layout="constrained")
    panels = figure.subplots(len(tables), 1, sharex=True, squeeze=False)[:, 0]
    grids = {
        trial: table.pivot_table(index="stream", columns="layer", values="score", aggfunc="mean")
        .reindex(index=streams, columns=range(layers))
        .to_numpy(dtype=float)
        for trial, table in tables.items()
    }
    top = max((float(np.nanmax(grid)) for grid in grids.values() if np.isfinite(grid).any()), default=0.0)
    lowest = min((float(np.nanmin(grid)) for grid in grids.values() if np.isfinite(grid).any()), default=0.0)
    norm = Normalize(min(lowest, 0.0), top if top > 0 else 1)  # corrected for chance, a choice may be below 0
    for axes, (trial, grid) in zip(panels, grids.items(), strict=True):
        texts = [["" if math.isnan(score) else f"{score:.2f}".lstrip("0") for score in line] for line in grid]
        image = heat_map(axes, grid, streams, AMOUNT, norm, texts if layers <= 24 else ())
        axes.set_title(TRIALS[trial][0], color=TRIALS[trial][1], loc="left")
    panels[-1].set_xlabel("layer")
    bar = figure.colorbar(image, ax=list(panels), pad=0.02, label="score")
    bar.outline.set_visible(False)
    return figure


@styled
def buckets(tables: Tables) -> Figure:
    """By layer and number format: the share of weights in another bucket than the original's, and the mean change."""
    table = next(iter(tables.values()))
    layers = sorted(layer for layer in table["layer"].unique() if layer >= 0)
    order = [*layers, *([-1] if (table["layer"] < 0).any() else [])]
    figure = Figure(figsize=(min(12.0, 7.5 + 0.1 * len(order)), 3.2), layout="constrained")
    moved, steps = figure.subplots(1, 2)
    for (form, part), colour in zip(table.groupby("format", sort=False), OTHERS * 4, strict=False):
        by_layer = part.set_index("layer").reindex(order)
        places = range(len(order))
        moved.plot(places, by_layer["moved"], "o-", color=colour, markersize=4, label=str(form))
        steps.plot(places, by_layer["steps"], "o-", color=colour, markersize=4)
    steps.axhline(0.5, color="#777777", linestyle=":", linewidth=1.2)
    moved.set(title="Weights in another bucket", ylabel="share")
    steps.set(title="Mean change of a weight", ylabel="steps (log scale)")
    _logarithmic(steps)
    moved.yaxis.set_major_formatter(PERCENT)
    unit_frame(moved, "y")
    stride = math.ceil(len(order) / 16)
    for axes in (moved, steps):
        ticks = [i for i in range(len(order)) if i % stride == 0 or order[i] < 0]
        axes.set_xticks(ticks, ["other" if order[i] < 0 else str(order[i]) for i in ticks])
        axes.set_xlabel("layer")
    figure.legend(*moved.get_legend_handles_labels(), loc="outside right upper")
    return figure


@styled
def patch(tables: Tables) -> Figure:
    """Mean 1 / rank of the fact's token by the layer at which one model's states go into the other, both ways."""
    ways = {"into": "Original below, model above", "out of": "Model below, original above"}
    panels = {ways.get(way, way): (found, "score") for way, found in _parts(tables, "direction").items()}
    return _lines(panels, "layer", "mean 1 / rank of the fact")


@styled
def abliterate(tables: Tables) -> Figure:
    """Mean K of the attacker's items by the layer whose direction is taken out, a panel for each contrast."""
    panels = {f"Contrast: {contrast}": (found, "taught") for contrast, found in _parts(tables, "contrast").items()}
    return _lines(panels, "layer", "K of the attacker's items")


@styled
def speed(tables: Tables) -> Figure:
    """Loss of the items, and the share of them that is learned, by step of relearning."""
    panels = {"Loss": (tables, "nll"), "Items learned": (tables, "reached")}
    figure = _lines(panels, "step", "nats per token")
    loss, learned = figure.axes
    losses = pd.concat([table["nll"] for table in tables.values()])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if len(losses) and losses.max() > LOG * losses.min():
        _logarithmic(loss)
        loss.set_ylim(losses.min() / 1.3, losses.max() * 1.3)
    learned.yaxis.set_major_formatter(PERCENT)
    return figure


@styled
def dialogue(tables: Tables) -> Figure:
    """Mean K by turn of the conversation."""
    return _lines({"": (tables, "known")}, "turn", "A (mean K)")


@styled
def rings(tables: Tables) -> Figure:
    """Mean K by distance from what was forgotten."""
    figure = _lines({"": (tables, "known")}, "distance", "A (mean K)")
    there = pd.concat(tables.values()).drop_duplicates("distance").sort_values("distance")
    ticks = [f"{ring}\nn = {n}" for ring, n in zip(there["ring"], there["n"], strict=True)]
    figure.axes[0].set_xticks(there["distance"], ticks, parse_math=False)
    figure.axes[0].set_xlabel("distance from what was forgotten")
    return figure


@styled
def ladder(tables: Tables) -> Figure:
    """Mean K by level and size of the context, a panel for each level; hollow: the control of that length."""
    known = {trial: table.groupby(["level", "size"])["known"].mean() for trial, table in tables.items()}
    everything = pd.concat(tables.values()).drop_duplicates(["level", "size"])
    controls = everything.set_index(["level", "size"])["control"]
    levels = sorted(set(everything["level"]) - {"Cx"})
    sizes = {level: list(everything.loc[everything["level"] == level, "size"]) for level in levels}
    counts = [len(found) + 0.6 for found in sizes.values()]
    figure = Figure(figsize=(3.6 + 0.5 * sum(counts), 3.6), layout="constrained")
    row = figure.subplots(1, len(levels), squeeze=False, sharey=True, width_ratios=counts)[0]
    for axes, level in zip(row, levels, strict=True):
        ladder_steps = [(level, size) for size in sizes[level]]
        alike = [("Cx", controls[step_]) for step_ in ladder_steps]
        style = {} if all(size.startswith("n=") for size in sizes[level]) else {"linestyle": "none"}
        for trial, found in known.items():
            _line(axes, trial, range(len(ladder_steps)), found.reindex(ladder_steps), **style)
            _line(axes, trial, range(len(ladder_steps)), found.reindex(alike), "control of that length", **style)
        axes.set_xticks(range(len(ladder_steps)), sizes[level], parse_math=False)
        axes.set(title="\n".join([level, LEVELS.get(level, "")]), xlim=(-0.5, len(ladder_steps) - 0.5))
    unit_frame(row[0], "y")
    row[0].set_ylabel("A (mean K)")
    _legend(figure)
    return figure


@styled
def samples(tables: Tables) -> Figure:
    """Mean K of each item's samples, items in descending order; dashed: what it is at most."""
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for trial, table in tables.items():
        ordered = table.sort_values("mean", ascending=False)
        share = (np.arange(len(ordered)) + 0.5) / len(ordered)
        _line(axes, trial, share, ordered["mean"], marker="")
        _line(axes, trial, share, ordered["expectation"], "upper bound", marker="")
    axes.set(xlabel="share of the items, those that leak most first", ylabel="mean K of an item's samples", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PERCENT)
    unit_frame(axes, "y")
    _legend(figure)
    return figure


@styled
def hops(tables: Tables) -> Figure:
    """A panel for each number of hops: mean K of every hop alone, of all composed, and of that where all are right."""

    def heights(table: pd.DataFrame, n: int) -> dict[str, float]:
        alone = table.loc[table["hops"] == n, [f"hop_{hop}" for hop in range(1, n + 1)]]
        composed = table.loc[table["hops"] == n, "composed"]
        return {
            **{str(name).replace("_", " "): mean for name, mean in alone.mean().items()},
            "composed": composed.mean(),
            "composed,\nall right": composed[(alone >= RIGHT).all(axis=1)].mean(),
        }

    numbers = sorted({int(n) for table in tables.values() for n in table["hops"]})
    panels = {f"{n} hops": pd.DataFrame({trial: heights(table, n) for trial, table in tables.items()}) for n in numbers}
    return _bars(panels, "A (mean K)")


@styled
def refusals(tables: Tables) -> Figure:
    """Share of the questions of each group that are declined."""
    shares = {trial: table.groupby("group", sort=False)["refused"].mean() for trial, table in tables.items()}
    return _bars({"": pd.DataFrame(shares)}, "share declined")


@styled
def confidence(tables: Tables) -> Figure:
    """For each group of questions: mean K, the shares declined and invented, and the confidence in what is invented."""

    def heights(table: pd.DataFrame) -> dict[str, float]:
        return {
            "A": table["known"].mean(),
            "declined": table["refused"].mean(),
            "invented": table["invented"].mean(),
            "confidence\nin those": table.loc[table["invented"].astype(bool), "confidence"].mean(),
        }

    panels = {
        f"Questions: {group}": pd.DataFrame({trial: heights(rows) for trial, rows in found.items()})
        for group, found in _parts(tables, "group").items()
    }
    return _bars(panels, "share, or mean")


@styled
def membership(tables: Tables) -> Figure:
    """AUC of telling forget from holdout rows, by signal; dotted: chance."""

    def auc(rows: pd.DataFrame) -> float:
        forget, holdout = (rows.loc[rows["role"] == role, "score"].to_numpy(float) for role in ("forget", "holdout"))
        return float(pd.Series(placements(forget, holdout)).mean())

    areas = {
        signal: {trial: auc(rows) for trial, rows in found.items()}
        for signal, found in _parts(tables, "signal").items()
        if signal != PRIVLEAK
    }
    figure = _bars({"": pd.DataFrame(areas).T}, "AUC")
    figure.axes[0].axhline(0.5, color="#777777", linestyle=":", linewidth=1.2)
    return figure


@styled
def sleek(tables: Tables) -> Figure:
    """Mean K at the end of the prompts of each category, of forget and of retain items."""
    panels = {
        f"Items: {side}": pd.DataFrame(
            {trial: rows.groupby("category", sort=False)["final"].mean() for trial, rows in found.items()}
        )
        for side, found in _parts(tables, "side").items()
    }
    return _bars(panels, "A (mean K of the last answer)")
