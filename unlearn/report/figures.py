"""Figures of a run and of several runs. Each function gives a matplotlib Figure of its own (no global state, no display)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearn.metrics.base import Result
from unlearn.report.folder import Run

COLOURS = {"target": "#d55e00", "unlearned": "#0072b2", "retain": "#009e73"}  # told apart by colour-blind readers too
OTHERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6a3d9a", "#444444")
MARKERS = "osD^vPX*"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "unlearn",  # the same figure is the same file
}
BARS = {"probability": "Probability", "rouge": "ROUGE-L recall", "recall": "Fact recall", "truth_ratio": "Truth ratio"}
P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def figures(run: Run) -> dict[str, Figure]:
    """The figures that this run has data for, by name."""
    made = {"tradeoff": tradeoff(run) if run.curve else None, "probes": probes(run), "losses": losses(run)}
    return {name: figure for name, figure in made.items() if figure is not None}


def image(figure: Figure, format: str) -> bytes:
    """The figure as a file's bytes; the same bytes for the same figure."""
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=format, dpi=144, metadata={"Date": None} if format == "svg" else {"Software": None})
    return buffer.getvalue()


@_styled
def tradeoff(run: Run) -> Figure:
    """The way from the target model: metrics over steps (retain model's value dashed), and utility against forgetting."""
    keys = [key for key in dict.fromkeys(k for point in run.curve for k in point) if key not in ("step", "forget_quality")]
    forget, utility = _axes_of(run, keys)
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    over_steps, plane = figure.subplots(1, 2)
    steps = [point["step"] for point in run.curve]
    for key, colour in zip(keys, OTHERS * len(keys), strict=False):
        values = [point.get(key, math.nan) for point in run.curve]
        over_steps.plot(steps, values, marker="o", markersize=4, color=colour, label=_words(key))
        if (retain := run.result("retain", key)) and math.isfinite(retain.value):
            over_steps.axhline(retain.value, color=colour, linestyle=(0, (4, 3)), linewidth=1)
    over_steps.set(title="Along the unlearning", xlabel="optimizer step", ylabel="value")
    over_steps.xaxis.set_major_locator(MaxNLocator(integer=True))
    _room_for(over_steps)
    if "retain" in run.results:
        over_steps.plot([], [], color="#555555", linestyle=(0, (4, 3)), linewidth=1, label="retain model")
    over_steps.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    if forget and utility:
        _path(plane, run, forget, utility)
    else:
        plane.set_axis_off()
    return figure


def _path(plane: Axes, run: Run, forget: str, utility: str) -> None:
    way = [(p["step"], p[forget], p[utility]) for p in run.curve if {"step", forget, utility} <= p.keys()]
    way = [point for point in way if all(map(math.isfinite, point))]
    x, y = [p[1] for p in way], [p[2] for p in way]
    plane.plot(x, y, color=COLOURS["unlearned"], marker="o", markersize=4, label="unlearning, by step", zorder=2)
    for step, a, b in way[1:-1] if len(way) <= 8 else way[1 : -1 : math.ceil(len(way) / 6)]:
        plane.annotate(f"{step:.0f}", (a, b), xytext=(4, 4), textcoords="offset points", fontsize=7.5, color="#555555")
    if way:
        plane.plot(x[-1], y[-1], "s", color=COLOURS["unlearned"], markersize=9, label=f"unlearned, step {way[-1][0]:.0f}", zorder=3)
    for model, marker in (("target", "*"), ("retain", "D")):
        a, b = run.result(model, forget), run.result(model, utility)
        if a and b and math.isfinite(a.value + b.value):
            size = 14 if marker == "*" else 8
            plane.plot(a.value, b.value, marker, color=COLOURS[model], markersize=size, label=f"{model} model", linestyle="", zorder=4)
    plane.set(title="Forgetting against utility", xlabel=f"{_words(forget)}", ylabel=_words(utility))
    _room_for(plane)
    plane.margins(x=0.08)
    plane.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


@_styled
def probes(run: Run) -> Figure | None:  # type: ignore[misc]
    """Probability, ROUGE, recall and truth ratio on each probe set, for each model, with 95% intervals."""
    names = [name for name in BARS if any(r.name == name and r.probe for r in run.results["unlearned"].values())]
    if not names:
        return None
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(9.5, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, min(2, len(names)), squeeze=False).flat
    for axes, name in zip(grid, names, strict=False):
        sets = [r.probe for r in run.results["unlearned"].values() if r.name == name and run.roles.get(r.probe) != "holdout"]
        width = 0.8 / len(run.models)
        for i, model in enumerate(run.models):
            found = [run.result(model, f"{probe}/{name}") for probe in sets]
            axes.bar(
                np.arange(len(sets)) + (i - (len(run.models) - 1) / 2) * width,
                [r.value if r else math.nan for r in found],
                width * 0.92,
                yerr=_errors(found),
                color=COLOURS[model],
                label=f"{model} model" if model != "unlearned" else "unlearned",
                error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
            )
        axes.set_xticks(range(len(sets)), [probe.replace("_", " ") for probe in sets])
        axes.set(title=BARS[name], ylim=(0, max(1.0, axes.get_ylim()[1])))
        axes.grid(axis="x", visible=False)
    for axes in list(grid):
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


@_styled
def losses(run: Run) -> Figure | None:  # type: ignore[misc]
    """The training loss and its parts, and the gradient norm, over the optimizer steps."""
    keys = dict.fromkeys(key for row in run.history for key in row)
    parts = [key for key in keys if key not in ("step", "lr", "loss", "grad_norm")]
    if "loss" not in keys:
        return None
    figure = Figure(figsize=(9.5, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = [row["step"] for row in run.history]
    few = {"marker": "o", "markersize": 3} if len(steps) <= 30 else {}
    left.plot(steps, _column(run.history, "loss"), color="#222222", label="loss (minimised)", **few)  # type: ignore[arg-type]
    for part, colour in zip(parts, OTHERS * len(parts), strict=False):
        left.plot(steps, _column(run.history, part), color=colour, label=part.replace("_", " "), **few)  # type: ignore[arg-type]
    left.set(title="Loss by part", xlabel="optimizer step", ylabel="nats")
    left.legend(loc="best", framealpha=0.8, frameon=True, edgecolor="none")
    right.plot(steps, _column(run.history, "grad_norm"), color="#6a3d9a", **few)  # type: ignore[arg-type]
    right.set(title="Gradient norm", xlabel="optimizer step", yscale="log")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@dataclass(frozen=True)
class Point:
    """One setting in the plane of utility and forgetting, each as (value, low, high)."""

    label: str
    utility: tuple[float, float, float]
    forgetting: tuple[float, float, float]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats (both coordinates at least as large, one larger), by falling utility."""
    finite = [i for i, point in enumerate(points) if all(map(math.isfinite, point))]
    front: list[int] = []
    best = -math.inf
    last = (math.nan, math.nan)
    for i in sorted(finite, key=lambda i: points[i], reverse=True):
        if points[i][1] > best or points[i] == last:
            front.append(i)
            best, last = points[i][1], points[i]
    return front


@_styled
def pareto(points: Sequence[Point], references: Mapping[str, Point], forgetting: str, utility: str, title: str) -> Figure:
    """Settings in the plane of utility (right is better) and forgetting (up is better), with the front of the best.

    forgetting: "forget_quality" is drawn on a log scale, another key (a probability) on an axis that falls upwards.
    references: the "target" and "retain" models, marked but not part of the front.
    """
    quality = forgetting == "forget_quality"
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.subplots()
    worth = [(p.utility[0], p.forgetting[0] if quality else -p.forgetting[0]) for p in points]
    front = pareto_front(worth)
    floor = min((p.forgetting[0] for p in [*points, *references.values()] if p.forgetting[0] > 0), default=1.0)
    height = lambda value: max(value, floor / 10) if quality else value  # noqa: E731 (a p of 0 has no place on a log scale)
    for i, point in enumerate(points):
        axes.errorbar(
            point.utility[0],
            height(point.forgetting[0]),
            xerr=_sides(*point.utility),
            yerr=_sides(*map(height, point.forgetting)),
            fmt=MARKERS[(i // len(OTHERS)) % len(MARKERS)],
            color=OTHERS[i % len(OTHERS)],
            markersize=7,
            elinewidth=1,
            capsize=2.5,
            label=point.label,
            zorder=3,
        )
    best = [points[i] for i in front]
    if len(best) > 1:
        axes.step(
            [p.utility[0] for p in best],
            [height(p.forgetting[0]) for p in best],
            where="pre",
            color="#999999",
            linestyle="--",
            linewidth=1.1,
            zorder=1,
            label="Pareto front",
        )
    for model, marker, size in (("target", "*", 14), ("retain", "D", 8)):
        if (point := references.get(model)) and math.isfinite(point.utility[0] + point.forgetting[0]):
            axes.plot(
                point.utility[0], height(point.forgetting[0]), marker, color="white", markeredgecolor="#222222",
                markersize=size, linestyle="", label=point.label, zorder=2,
            )  # fmt: skip
    if quality:
        axes.set_yscale("log")
    else:
        axes.invert_yaxis()
    axes.margins(0.1)
    axes.set(title=title, xlabel=f"{_words(utility)} → better", ylabel=f"{_words(forgetting)} → better")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _axes_of(run: Run, keys: Sequence[str]) -> tuple[str, str]:
    """Which keys of the curve stand for forgetting and for utility; "" where none does."""
    roles = {key: run.roles.get(key.rpartition("/")[0], "") for key in keys}
    forget = ["forget/probability", *(key for key, role in roles.items() if role == "forget")]
    utility = ["model_utility", "retain/probability", *(key for key, role in roles.items() if role in ("retain", "utility"))]
    return next((key for key in forget if key in keys), ""), next((key for key in utility if key in keys), "")


def _errors(results: Sequence[Result | None]) -> np.ndarray:
    """Distances [2, n] from the values to the ends of their intervals, 0 where there is none."""
    sides = [_sides(r.value, r.low, r.high) if r else np.zeros((2, 1)) for r in results]
    return np.concatenate(sides, axis=1)


def _sides(value: float, low: float, high: float) -> np.ndarray:
    return np.nan_to_num(np.maximum([[value - low], [high - value]], 0.0), nan=0.0, posinf=0.0)


def _column(history: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [row.get(key, math.nan) for row in history]


def _words(key: str) -> str:
    """A metric's key in words: "forget/truth_ratio" as "forget truth ratio"."""
    return key.replace("/", " ").replace("_", " ")


def _room_for(axes: Axes) -> None:
    """Keep shares between 0 and 1 in an honest frame: from 0, a little above the highest."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.0) if low > -0.2 else low, high + 0.05 * (high - low))
