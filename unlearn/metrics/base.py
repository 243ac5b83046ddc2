"""What every metric gives, and the protocol it follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from unlearn.metrics.statistics import bootstrap_mean
from unlearn.score.table import Scores


@dataclass(frozen=True)
class Result:
    """One number about one probe set.

    name: the metric; probe: the probe set ("" where it spans several). value: the aggregate (nan where undefined, with
    the reason in `note`); low, high: bootstrap 95% interval; n: how many items it rests on; items: the per-item values
    [n] (nan marks an item left out), for tests and for paired comparisons.
    """

    name: str
    probe: str
    value: float
    low: float
    high: float
    n: int
    items: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    note: str = ""

    @property
    def key(self) -> str:
        """The name under which the number is logged: "forget/probability", "model_utility"."""
        return f"{self.probe}/{self.name}" if self.probe else self.name

    @classmethod
    def mean(cls, name: str, probe: str, items: np.ndarray) -> Result:
        """The mean of the items that are not nan."""
        n = int((~np.isnan(items)).sum())
        if not n:
            return cls.undefined(name, probe, "no item has a value", items)
        return cls(name, probe, float(np.nanmean(items)), *bootstrap_mean(items), n, items)

    @classmethod
    def undefined(cls, name: str, probe: str, note: str, items: np.ndarray | None = None) -> Result:
        """A number that cannot be had, and why."""
        return cls(name, probe, math.nan, math.nan, math.nan, 0, np.empty(0) if items is None else items, note)


class Metric(Protocol):
    """A metric is a small frozen dataclass; its fields are its options."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        """Results for one model. `control` holds the control model's scores, None where there is no such model.

        Where a dataset lacks what the metric reads, the result is undefined with a note, or there is none; no error.
        """
        ...
