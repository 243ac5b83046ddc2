"""Settings in the plane of utility and forgetting, with the front of the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from unlearn.report.style import OTHERS, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKERS = "osD^vPX"
REFERENCES = {"original": ("*", 14), "control": ("D", 8)}  # marker and size


@dataclass(frozen=True)
class Point:
    """A setting or a reference model in the plane of utility and forgetting, each as (value, low, high).

    kind: "original" and "control" are references, marked but no part of the front; any other is a setting.
    """

    kind: str
    label: str
    utility: tuple[float, float, float]
    forgetting: tuple[float, float, float]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats, by falling first coordinate.

    To beat is to have no coordinate smaller and one larger.
    """
    finite = [i for i, point in enumerate(points) if all(map(math.isfinite, point))]
    front: list[int] = []
    best = -math.inf
    last = (math.nan, math.nan)
    for i in sorted(finite, key=lambda i: points[i], reverse=True):
        if points[i][1] > best or points[i] == last:
            front.append(i)
            best, last = points[i][1], points[i]
    return front


@styled
def pareto(points: Sequence[Point], forgetting: str, utility: str, title: str, quality: bool) -> Figure:
    """Draw utility (right is better) against forgetting (up is better), with the front of the best settings.

    quality: whether more of what stands for forgetting is better, which is then a p-value on a log scale; else it is
    drawn on an axis that falls upwards.
    """
    points = [p for p in points if math.isfinite(p.utility[0] + p.forgetting[0])]
    positive = [p.forgetting[0] for p in points if p.forgetting[0] > 0]
    floor = min(positive, default=1.0) / 10 if quality else -math.inf  # 0 has no place on a log scale
    settings = [p for p in points if p.kind not in REFERENCES]
    longest = max((len(p.label) for p in points), default=0)
    figure = Figure(figsize=(5.8 + 0.08 * longest, max(4.6, 0.5 + 0.21 * len(points))), layout="constrained")
    axes = figure.subplots()
    for i, p in enumerate(settings):
        axes.errorbar(
            p.utility[0],
            max(p.forgetting[0], floor),
            xerr=sides(*p.utility),
            yerr=sides(*(max(end, floor) for end in p.forgetting)),
            fmt=MARKERS[i // len(OTHERS) % len(MARKERS)],
            color=OTHERS[i % len(OTHERS)],
            markersize=7,
            elinewidth=1,
            capsize=2.5,
            label=p.label,
            zorder=3,
        )
        if p.forgetting[0] < floor:
            axes.annotate("p = 0", (p.utility[0], floor), xytext=(6, -3), textcoords="offset points", fontsize=7.5)
    best = [
        settings[i] for i in pareto_front([(p.utility[0], (1 if quality else -1) * p.forgetting[0]) for p in settings])
    ]
    x, y = [p.utility[0] for p in best], [max(p.forgetting[0], floor) for p in best]
    if len(best) > 1:
        axes.step(x, y, where="post", color="#999999", linestyle="--", linewidth=1.1, zorder=1, label="Pareto front")
    for p in points:
        if p.kind in REFERENCES:
            marker, size = REFERENCES[p.kind]
            at = p.utility[0], max(p.forgetting[0], floor)
            axes.plot(*at, marker, color="white", markeredgecolor="#222222", markersize=size, label=p.label, zorder=2)
    if quality:
        axes.set_yscale("log")
    else:
        axes.invert_yaxis()
    axes.margins(0.1)
    axes.set(
        title=title, xlabel=f"{words_of(utility)} (right is better)", ylabel=f"{words_of(forgetting)} (up is better)"
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def sides(value: float, low: float, high: float) -> np.ndarray:
    """Return the distances [2, 1] from a value to the ends of its interval, 0 where there is none."""
    return np.nan_to_num(np.maximum([[value - low], [high - value]], 0.0), nan=0.0, posinf=0.0)


def words_of(key: str) -> str:
    """Return a metric's key in words: "forget/truth_ratio" as "forget truth ratio"."""
    return key.replace("/", " ").replace("_", " ")
