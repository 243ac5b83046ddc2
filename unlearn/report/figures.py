"""Figures of a run and of several runs: each function gives a matplotlib Figure, without display or global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unlearn.report import localization
from unlearn.report.headline import headline
from unlearn.report.pareto import REFERENCES, sides, words_of
from unlearn.report.style import COLOURS, DASHED, OTHERS, Drawn, styled, unit_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unlearn.metrics.base import Result
    from unlearn.report.folder import Run


def figures(run: Run) -> dict[str, Drawn]:
    """Return the figures that this run has data for, by name."""
    drawn = {}
    if run.results and (run.curve or run.history) and _drawable(run):
        words = "What unlearning gained and cost along the way. Dashed: the control model, where forgetting should end."
        drawn["tradeoff"] = Drawn("Trade-off", words, tradeoff(run))
    if any(_bars(run)):
        drawn["probes"] = Drawn("Probe sets", "The models side by side on each set, with 95% intervals.", probes(run))
    if run.history:
        words = (
            "What was minimised, its parts before weighting, the norm of the gradient before clipping, and what method "
            "and update tell of themselves."
        )
        drawn["losses"] = Drawn("Training", words, losses(run))
    # The numbers of a localization end what the report writes: its figures come next.
    return (localization.figures(run.localization) if run.localization else {}) | drawn


@styled
def tradeoff(run: Run) -> Figure:
    """From the original to the unlearned model: metrics over steps (dashed: the control model's), and their plane."""
    way, axis = _way(run), plot_keys(run)
    keys = _curve_keys(run, axis)
    tests = [key for key in axis.logarithmic if any(math.isfinite(point.get(key, math.nan)) for point in way)]
    figure = Figure(figsize=(9.5 + 3.0 * len(tests), 3.9), layout="constrained")
    over_steps, plane, *rest = figure.subplots(1, 2 + len(tests))
    for key, colour in zip(keys, OTHERS * len(keys), strict=False):
        _over_steps(over_steps, run, way, key, colour)
    over_steps.set(title="Along the unlearning", ylabel="value")
    unit_frame(over_steps, "y")
    if "control" in run.results:
        over_steps.plot([], [], color="#555555", linestyle=DASHED, linewidth=1, label="control model")
    _path(plane, run, way, *_plane_keys(keys, axis))
    for axes, key in zip(rest, tests, strict=True):
        _over_steps(axes, run, way, key, COLOURS["unlearned"], dashed=False)
        axes.axhline(0.05, color="#999999", linestyle=":", linewidth=1.2, label="p = 0.05")
        axes.set(title=words_of(key).capitalize(), ylabel="p (log scale)", yscale="log")
    _mark_requests(run, over_steps, *rest)
    for axes in (over_steps, plane, *rest):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _drawable(run: Run) -> bool:
    """Return whether the run has a metric that can be an axis."""
    axis = plot_keys(run)
    return bool(_curve_keys(run, axis) or axis.logarithmic)


@dataclass(frozen=True)
class PlotKeys:
    """Keys of the results that stand for forgetting and for utility, the best first, and those on a log scale."""

    forgetting: Sequence[str]
    utility: Sequence[str]
    logarithmic: Sequence[str]


def plot_keys(run: Run) -> PlotKeys:
    """Return what the metrics of a run say may be an axis, on the sets of the first aim of each reading."""
    found: dict[str, list[str]] = {"forgetting": [], "utility": [], "log": []}
    for line in headline(run, defined=False):
        if line.reading.axis and line.first:
            log = line.reading.axis == "forgetting" and line.scale == "log"
            found["log" if log else line.reading.axis].append(line.key)
    return PlotKeys(found["forgetting"], found["utility"], found["log"])


def _way(run: Run) -> list[Mapping[str, float]]:
    """Return the points of the curve: the original's results as step 0, the unlearned model's as the last step."""
    ends = {model: {key: r.value for key, r in run.results[model].items()} for model in ("original", "unlearned")}
    last = max((row["step"] for row in (*run.history, *run.curve)), default=0.0)
    between = [point for point in run.curve if 0 < point["step"] < last]
    return [{"step": 0.0, **ends["original"]}, *between, {"step": last, **ends["unlearned"]}]


def _curve_keys(run: Run, axis: PlotKeys) -> list[str]:
    """Return what is drawn over steps: what may be an axis, on all sets but the held-out one, of what the curve has."""
    names = dict.fromkeys(key.rpartition("/")[2] for key in axis.forgetting)
    kept = [f"{probe}/{name}" for name in names for probe, aim in run.aims.items() if aim != "holdout"]
    wanted = [*axis.forgetting, *axis.utility, *kept]
    return [key for key in dict.fromkeys(wanted) if all(key in point for point in _way(run))]


def _plane_keys(keys: Sequence[str], axis: PlotKeys) -> tuple[str, str]:
    """Return the keys that stand for forgetting and for utility; "" where there is none."""
    forget = next((key for key in axis.forgetting if key in keys), "")
    utility = [key for key in (*axis.utility, *keys) if key in keys and key not in axis.forgetting]
    return forget, utility[0] if utility else ""


def _over_steps(
    axes: Axes, run: Run, way: Sequence[Mapping[str, float]], key: str, colour: str, dashed: bool = True
) -> None:
    defined = [point for point in way if math.isfinite(point.get(key, math.nan))]
    steps, values = ([point[name] for point in defined] for name in ("step", key))
    axes.plot(steps, values, marker="o", markersize=4, color=colour, label=words_of(key))
    if dashed and (control := run.result("control", key)) and math.isfinite(control.value):
        axes.axhline(control.value, color=colour, linestyle=DASHED, linewidth=1)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _path(plane: Axes, run: Run, way: Sequence[Mapping[str, float]], forget: str, utility: str) -> None:
    if not (forget and utility):
        plane.set_axis_off()
        return
    steps, x, y = ([point[key] for point in way] for key in ("step", forget, utility))
    colour = COLOURS["unlearned"]
    plane.plot(x, y, color=colour, marker="o", markersize=4, label="unlearning, by step", zorder=2)
    for i in range(1, len(way) - 1, math.ceil(len(way) / 8)):
        plane.annotate(
            f"{steps[i]:.0f}", (x[i], y[i]), xytext=(4, 5), textcoords="offset points", fontsize=7.5, color="#555555"
        )
    plane.plot(x[-1:], y[-1:], "s", color=colour, markersize=9, label=f"unlearned, step {steps[-1]:.0f}", zorder=3)
    for model, (marker, size) in REFERENCES.items():
        gone, kept = run.result(model, forget), run.result(model, utility)
        if gone and kept and math.isfinite(gone.value + kept.value):
            plane.plot(
                gone.value,
                kept.value,
                marker,
                color=COLOURS[model],
                markersize=size,
                label=f"{model} model",
                linestyle="",
                zorder=4,
            )
    plane.set(title="Forgetting against utility", xlabel=words_of(forget), ylabel=words_of(utility))
    unit_frame(plane, "x", "y")


@styled
def probes(run: Run) -> Figure:
    """Each metric that is shown by bars, on each probe set, for each model, with 95% intervals."""
    names = _bars(run)
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(9.5, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, min(2, len(names)), squeeze=False).flat
    for name, axes in zip(names, grid, strict=False):
        sets = [
            r.probe for r in run.results["unlearned"].values() if r.name == name and run.aims.get(r.probe) != "holdout"
        ]
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
        axes.set(title=names[name])
        unit_frame(axes, "y")
        axes.grid(axis="x", visible=False)
    for axes in list(grid):
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


@styled
def losses(run: Run) -> Figure:
    """Draw the training loss and its parts, the gradient norm, and what method and update say, over optimizer steps.

    What they say (names with a slash, see training/objective.py) has a panel each, two in a row.
    """
    keys = dict.fromkeys(key for row in run.history for key in row)
    parts = [key for key in keys if key not in ("step", "lr", "loss", "grad_norm") and "/" not in key]
    own = [key for key in keys if "/" in key]
    lines = 1 + (len(own) + 1) // 2
    figure = Figure(figsize=(9.5, 3.1 * lines), layout="constrained")
    left, right, *others = figure.subplots(lines, 2, width_ratios=(3, 2)).flat
    steps = [row["step"] for row in run.history]
    few: Any = {"marker": "o", "markersize": 3} if len(steps) <= 30 else {}
    left.plot(steps, _column(run.history, "loss"), color="#222222", label="loss (minimised)", **few)
    for part, colour in zip(parts, OTHERS * len(parts), strict=False):
        left.plot(steps, _column(run.history, part), color=colour, label=part.replace("_", " "), **few)
    left.set(title="Loss by part", xlabel="optimizer step", ylabel="loss")
    _mark_requests(run, left, right)
    left.legend(loc="best", framealpha=0.8, frameon=True, edgecolor="none")
    right.plot(steps, _column(run.history, "grad_norm"), color="#6a3d9a", **few)
    right.set(title="Gradient norm", xlabel="optimizer step", yscale="log")
    for key, axes in zip(own, others, strict=False):
        axes.plot(steps, _column(run.history, key), color="#222222", **few)
        axes.set(title=key.replace("/", ": ").replace("_", " "), xlabel="optimizer step")
    for axes in others[len(own) :]:
        axes.set_axis_off()
    for axes in (left, right, *others):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _mark_requests(run: Run, *plots: Axes) -> None:
    """Draw a line where each request but the first begins."""
    for axes in plots:
        for i, step in enumerate(run.begins):
            axes.axvline(step, color="#999999", linewidth=0.8, label="" if i else "next request", zorder=0)


def _bars(run: Run) -> dict[str, str]:
    """Return the metrics that are drawn by probe set and that this run has, with their titles."""
    there = {result.name for result in run.results.get("unlearned", {}).values() if result.probe}
    return {reading.name: reading.title for reading in run.readings if reading.bars and reading.name in there}


def _errors(results: Sequence[Result | None]) -> np.ndarray:
    """Distances [2, n] from the values to the ends of their intervals, 0 where there is none."""
    found = [sides(r.value, r.low, r.high) if r else np.zeros((2, 1)) for r in results]
    return np.concatenate(found, axis=1)


def _column(history: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [row.get(key, math.nan) for row in history]
