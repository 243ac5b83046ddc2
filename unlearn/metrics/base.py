"""What every metric gives, and the protocol it follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

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


class Metric(Protocol):
    """A metric is a small frozen dataclass; its fields are its options."""

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        """Results for one model. `control` holds the retain model's scores, None where there is no such model."""
        ...
