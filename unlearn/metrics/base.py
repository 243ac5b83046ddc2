"""What every metric gives, and the protocol it follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from unlearn.metrics.intervals import UNIT, Clusters, basis, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.metrics.statistics import Interval
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class Result:
    """One number about one probe set."""

    name: str
    """The metric."""
    probe: str
    """The probe set; "" where it spans several."""
    value: float
    """The aggregate; nan where undefined."""
    low: float
    """Where the 95 % interval begins; nan where there is none."""
    high: float
    """Where it ends."""
    n: int
    """How many items it rests on."""
    items: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """The per-item values [n], for tests and for paired comparisons; nan marks an item left out."""
    note: str = ""
    """Why the value is undefined, what its interval rests on, or what else has to be said."""

    @property
    def key(self) -> str:
        """The name under which the number is logged: "forget/probability", "model_utility"."""
        return f"{self.probe}/{self.name}" if self.probe else self.name

    @classmethod
    def mean(
        cls, name: str, probe: str, items: np.ndarray, clusters: Clusters = None, bounds: Interval = UNIT
    ) -> Result:
        """Return the mean of the items [n] that are not nan.

        clusters: what each is about; None: each is about something else. bounds: between which all items lie.
        """
        valid = ~np.isnan(items)
        if not valid.any():
            return cls.undefined(name, probe, "no item has a value", items)
        labels = np.arange(len(items)) if clusters is None else np.asarray(clusters)
        ends, note = mean_interval(items, labels, bounds), basis(labels[valid])
        return cls(name, probe, float(np.nanmean(items)), *ends, int(valid.sum()), items, note)

    @classmethod
    def undefined(cls, name: str, probe: str, note: str, items: np.ndarray | None = None) -> Result:
        """Return a number that cannot be had, and why."""
        return cls(name, probe, math.nan, math.nan, math.nan, 0, np.empty(0) if items is None else items, note)


FORGETTING, EDITING, UTILITY = "Forgetting", "Editing", "Utility"
MEMORISATION, MEMBERSHIP = "Memorisation", "Membership"


@dataclass(frozen=True)
class Reading:
    """How one result of a metric is shown among the headline numbers."""

    name: str
    """The result's name."""
    title: str
    """What it is called."""
    group: str
    """The heading under which it stands: one of those above, or another."""
    aims: tuple[str, ...]
    """Aims of the probe sets on which it is a headline number; "" where it spans several."""
    words: str
    """What it says and where it should go, in a sentence or two."""
    direction: Literal["up", "down"]
    """Which way a good unlearned model lies from the original, or where it stays: which way is better."""
    on_console: bool = False
    """True: it is among the few numbers that a console has room for, on the first of its aims."""
    axis: Literal["", "forgetting", "utility"] = ""
    """Whether it can be an axis of the plots of forgetting against utility, on the first of its aims."""
    scale: Literal["plain", "log", "percent"] = "plain"
    """log: a p-value, drawn and pooled over seeds as its logarithm. percent: shown with its sign and a decimal."""
    bars: bool = False
    """True: it is drawn by probe set."""
    neutral: float | None = None
    """The value of a model without any trace; beyond it, in the direction, more was removed than was ever there."""


class Metric(Protocol):
    """A metric is a small frozen dataclass; its fields are its options."""

    @property
    def reads(self) -> frozenset[str]:
        """Return the names of the tables that it is computed from; where one is missing, it is undefined."""
        ...

    @property
    def reading(self) -> tuple[Reading, ...]:
        """Return how its results are shown; those that are not named are shown in the table of all results alone."""
        ...

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables.

        references: the tables of the original, and of the control model where there is one. Where a dataset lacks what
        the metric reads, the result is undefined with a note, or there is none; no error.
        """
        ...
