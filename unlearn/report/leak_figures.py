"""Figures of the attacks: who leaks how much, at which budget, and those of single attacks' tables."""

from __future__ import annotations

import math
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from unlearn.leak.ladder import RECOVERED, LadderStep
from unlearn.leak.leak_row import Row
from unlearn.leak.leak_table import Leaks
from unlearn.leak.verdict import LEAKS, NO_LEAK, Worst
from unlearn.report import attack_tables
from unlearn.report.chart_base import MODELS, SIZES
from unlearn.report.leak_words import groups
from unlearn.report.style import DASHED, Drawn, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from unlearn.leak.leak_table import Leaks
    from unlearn.report.attacks_folder import Attacks

SHADES = {"black": "#333333", "grey": "#a0a0a0", "white": "#ffffff"}
EDGE = "#333333"
FEWEST, MOST = -0.5, 1.25  # of the leak's axis; what lies outside is marked at its end


def figures(attacks: Attacks) -> dict[str, Drawn]:
    """Return the figures that these attacks have data for, by name."""
    leaks = attacks.leaks
    words = (
        "Left: the leak of each attack with its bounds, which hold at once, and the cross-fitted worst case of each "
        "threat level (diamond). 0: as a model that never learned, 1: as before unlearning. An attack leaks if its "
        "bounds are right of the first dotted line; left of the second, it found no leak. Right: what each model shows."
    )
    drawn = {"attack-leaks": Drawn("Leak by attack", words, bars(attacks))}
    if leaks.ladder_steps:
        words = (
            "What each model shows (above), and the leak (below), as the attacker spends more. Dotted: half of the "
            "knowledge is back. Only where the unlearned model rises and the control does not is it a leak."
        )
        drawn["attack-budgets"] = Drawn("Leak by budget", words, budgets(leaks, _name(leaks)))
    return drawn | attack_tables.figures(attacks)


def _name(leaks: Leaks) -> str:
    """Return what stands for the model that never learned."""
    return {"control": "control", "placebo": "placebo items", "chance": "chance"}[leaks.baseline]


@styled
def bars(attacks: Attacks) -> Figure:
    """Draw a row per attack, by threat level: its leak with the interval, and the knowledge of the three models."""
    lines: list[tuple[str, Row | Worst | None]] = []
    for group in groups(attacks):
        lines.append((group.title, None))
        lines += [(row.attack, row) for row in group.rows]
        lines += [("worst case", group.worst)] if group.worst else []
    if len(attacks.leaks.worst) > 2:
        lines += [("All threat levels", None), ("worst case", attacks.leaks.overall)]
    longest = max(len(name) for name, _ in lines)
    figure = Figure(figsize=(8.6 + 0.07 * longest, 1.3 + 0.235 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for y, (_, one) in enumerate(lines):
        if isinstance(one, Row):
            _bar(left, y, one)
            _models(right, y, one)
        elif one:
            _interval(left, y, one, marker="D", size=6.5, width=2.2)
    for leak, style, width in ((0.0, "-", 0.9), (1.0, "-", 0.9), (LEAKS, ":", 1.5), (NO_LEAK, ":", 1.5)):
        left.axvline(leak, color="#777777", linestyle=style, linewidth=width, zorder=1)
    ticks = (FEWEST, 0, LEAKS, NO_LEAK, 0.5, 0.75, 1)
    left.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks], fontsize=8)
    left.set(xlim=(FEWEST, MOST), ylim=(len(lines) - 0.4, -0.7), xlabel="leak", title="Leak")
    left.set_yticks(range(len(lines)), [name for name, _ in lines], parse_math=False)
    for (_, one), label in zip(lines, left.get_yticklabels(), strict=True):
        label.set(
            fontweight="bold" if one is None else "normal", style="italic" if isinstance(one, Worst) else "normal"
        )
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="both" if axes is left else "y", visible=False)
        for y, (_, one) in enumerate(lines):
            if one is None and y:
                axes.axhline(y - 0.55, color="#dddddd", linewidth=0.8)
    right.set(title="Knowledge shown", xlabel="A (mean over the scored items)")
    for role, label in (("original", "original"), ("unlearned", "unlearned"), ("control", _name(attacks.leaks))):
        right.plot([], [], "o", color=MODELS[role][1], label=label)
    shown = [a for row in attacks.leaks.rows for a in (row.original, row.unlearned, row.control) if math.isfinite(a)]
    right.set_xlim(min([0.0, *shown]) - 0.04, 1.04)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _bar(axes: Axes, y: int, row: Row) -> None:
    """Draw the leak as a bar; why there is none in words."""
    if math.isfinite(row.leak):
        shade: Any = {"color": SHADES[row.threat], "edgecolor": EDGE, "linewidth": 0.8}
        if not row.counts:
            shade |= {"color": "none", "linestyle": DASHED}
        axes.barh(y, np.clip(row.leak, FEWEST, MOST), 0.62, zorder=2, **shade)
        _interval(axes, y, row, marker="", size=0, width=1.1)
        return
    said = row.status if row.status == "uninformative" else f"{row.status}: {row.reason}"
    said = shorten(said, 60, placeholder=" ...")
    paper: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.text(0.02, y, said, va="center", fontsize=7.5, color="#777777", parse_math=False, bbox=paper)


def _interval(axes: Axes, y: int, one: Row | Worst, marker: str, size: float, width: float) -> None:
    """Draw the interval as a line with the value as a marker; arrows where it goes on outside the axis."""
    colour = "#d55e00" if isinstance(one, Worst) else "#0072b2"
    if not math.isnan(one.low + one.high):
        halo = [withStroke(linewidth=width + 1.6, foreground="white")]
        ends = np.clip([one.low, one.high], FEWEST, MOST)
        axes.plot(ends, [y, y], color=colour, linewidth=width, zorder=3, path_effects=halo)
        for outside, arrow, edge in ((one.low < FEWEST, "<", FEWEST), (one.high > MOST, ">", MOST)):
            if outside:
                axes.plot(edge, y, arrow, color=colour, markersize=4, clip_on=False, zorder=4)
    if marker and math.isfinite(one.leak):
        axes.plot(np.clip(one.leak, FEWEST, MOST), y, marker, color=colour, markersize=size, zorder=4)


def _models(axes: Axes, y: int, row: Row) -> None:
    values = {"original": row.original, "unlearned": row.unlearned, "control": row.control}
    if all(map(math.isfinite, values.values())):
        axes.plot([min(values.values()), max(values.values())], [y, y], color="#cccccc", linewidth=2, zorder=1)
        for role, value in values.items():
            axes.plot(value, y, "o", color=MODELS[role][1], markersize=SIZES[role], zorder=2)


@styled
def budgets(leaks: Leaks, control: str) -> Figure:
    """Draw a column for each attack with a ladder: A of the three models over the budget, and below it the leak."""
    ladders: dict[str, list[LadderStep]] = {}
    for step_ in leaks.ladder_steps:
        ladders.setdefault(step_.attack, []).append(step_)
    rows = {row.attack: row for row in leaks.rows}
    lowest = max(
        min([-0.05, *(step_.leak - 0.05 for step_ in leaks.ladder_steps if math.isfinite(step_.leak))]), FEWEST
    )
    down = math.ceil(len(ladders) / 4)
    across = math.ceil(len(ladders) / down)
    figure = Figure(figsize=(1.2 + 2.7 * max(across, 2), 4.3 * down), layout="constrained")
    bands = figure.subfigures(down, 1, squeeze=False)[:, 0]
    names = list(ladders)
    for i, band in enumerate(bands):
        panels = band.subplots(2, across, height_ratios=(3, 2), squeeze=False, sharey="row")
        for shown, below, name in zip(*panels, names[i * across : (i + 1) * across], strict=False):
            _ladder(shown, below, ladders[name], control)
            below.set_ylim(lowest, 1.05)
            row = rows[name]
            spent = "; ".join(part for part in (row.data, row.budget) if part)
            shown.set_title(fill(name, 30), parse_math=False)
            below.set_xlabel(
                fill(f"budget ({shorten(spent, 64, placeholder=' ...')})", 34), fontsize=8, parse_math=False
            )
        for empty in panels[:, len(names[i * across : (i + 1) * across]) :].flat:
            empty.set_axis_off()
        panels[0, 0].set_ylabel("A")
        panels[1, 0].set_ylabel("leak")
    handles, labels = bands[0].axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _ladder(shown: Axes, below: Axes, ladder_steps: Sequence[LadderStep], control: str) -> None:
    x = [step_.budget for step_ in ladder_steps]
    for role, label in (("original", "original"), ("unlearned", "unlearned"), ("control", control)):
        size, colour = SIZES[role], MODELS[role][1]
        line: Any = {"color": colour, "markersize": size, "linewidth": size / 2.5, "label": label}
        shown.plot(x, [getattr(step_, role) for step_ in ladder_steps], "o-", **line)
    below.plot(x, [step_.leak for step_ in ladder_steps], "o-", color="#222222", markersize=4)
    below.axhline(RECOVERED, color="#777777", linestyle=":", linewidth=1.2)
    below.axhline(0, color="#777777", linewidth=0.9)
    shown.set_ylim(-0.05, 1.05)
    for axes in (shown, below):
        if min(x) > 0 and max(x) / min(x) >= 4:
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{budget:g}" for budget in x])
        axes.minorticks_off()
    shown.tick_params(labelbottom=False)
