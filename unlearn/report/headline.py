"""Which numbers are shown first, in which group, and how each is to be read, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.metrics.base import EDITING, FORGETTING, MEMBERSHIP, MEMORISATION, UTILITY, Reading, Result

if TYPE_CHECKING:
    from unlearn.report.folder import Run

GROUPS = {
    FORGETTING: "What the model still says about the forget set, also where it is asked in other forms. The aim is the "
    "control model's column, not zero.",
    EDITING: "What the model says in the place of the forgotten answers. The aim of editing is 1.",
    UTILITY: "What the model should still know. The aim is the original's column.",
    MEMORISATION: "How much of the forget set's wording can be drawn out. The aim is the control model's column.",
    MEMBERSHIP: "Whether the forget set can be told from text that no model has seen. The aim is the control model's "
    "column. Over-unlearned: more is gone than if it had never been there.",
}


@dataclass(frozen=True)
class Line:
    """One row of the headline table: a metric on a probe set, with the result of each model that has it.

    first: whether the set is of the first of the reading's aims.
    """

    key: str
    reading: Reading
    probe: str
    results: Mapping[str, Result]
    first: bool = False

    @property
    def metric(self) -> str:
        """What the metric is called."""
        return self.reading.title

    @property
    def group(self) -> str:
        """The heading under which it stands."""
        return self.reading.group

    @property
    def words(self) -> str:
        """How it is to be read."""
        return self.reading.words

    @property
    def scale(self) -> str:
        """How its numbers are shown."""
        return self.reading.scale

    @property
    def title(self) -> str:
        """The metric's name, with the probe set's where there are several."""
        return f"{self.metric}, {self.probe}" if self.probe else self.metric

    @property
    def defined(self) -> bool:
        """Whether any model has a value."""
        return not all(math.isnan(result.value) for result in self.results.values())

    @property
    def over_unlearned(self) -> bool:
        """Whether the unlearned model's whole interval lies where more was removed than retraining would have removed.

        That is beyond the neutral value of its reading, or beyond the control model's where that is further still: then
        the held-out rows are easier in themselves.
        """
        result, control = self.results.get("unlearned"), self.results.get("control")
        neutral, side = self.reading.neutral, 1 if self.reading.direction == "up" else -1
        if neutral is None or result is None or math.isnan(result.value):
            return False
        if control is not None and side * (control.value - neutral) > 0:
            neutral = control.value
        end = result.low if side > 0 else result.high
        return side * ((result.value if math.isnan(end) else end) - neutral) > 0

    @property
    def n(self) -> int:
        """How many items the number rests on."""
        return max(result.n for result in self.results.values())


def headline(run: Run, defined: bool = True) -> list[Line]:
    """Return the headline numbers of a run, group by group; where `defined`, without those that no model has."""
    return [line for line in _lines(run) if line.defined or not defined]


def undefined(run: Run) -> dict[str, str]:
    """Return the headline metrics that are undefined for every model, by title, and why."""
    return {line.title: next(iter(line.results.values())).note for line in _lines(run) if not line.defined}


def _lines(run: Run) -> list[Line]:
    """Return the lines by group: in the order of GROUPS, then others; within one by reading, then by probe set."""
    keys = dict.fromkeys(key for model in run.models for key in run.results[model])
    first = {key: next(r for m in run.models if (r := run.result(m, key))) for key in keys}
    lines = []
    for reading in run.readings:
        for key, result in first.items():
            aim = run.aims[result.probe] if result.probe else ""
            if result.name == reading.name and aim in reading.aims:
                results = {model: r for model in run.models if (r := run.result(model, key))}
                probe = "" if result.probe == "forget" else result.probe
                lines.append(Line(key, reading, probe, results, aim == reading.aims[0]))
    order = list(dict.fromkeys([*GROUPS, *(line.group for line in lines)]))
    return sorted(lines, key=lambda line: order.index(line.group))


def show(value: float, scale: str = "plain") -> str:
    """Return a number for people: three decimals, powers of ten where tiny, percentages signed, and a dash for nan."""
    if math.isnan(value):
        return "–"
    if scale == "percent":
        text = f"{value:+.1f}"
    elif value and abs(value) < 1e-3:
        text = f"{value:.0e}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return text.replace("-", "−", 1) if value < 0 else text


def show_interval(result: Result, scale: str = "plain") -> str:
    """Return the result's 95% interval, "" where it has none."""
    if math.isnan(result.low) or math.isnan(result.high):
        return ""
    return f"[{show(result.low, scale)}, {show(result.high, scale)}]"
