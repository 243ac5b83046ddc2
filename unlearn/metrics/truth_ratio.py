"""Truth ratio: how likely wrong answers are beside the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from unlearn.metrics.base import FORGETTING, Reading, Result
from unlearn.metrics.columns import losses, probe_clusters
from unlearn.score.table import Tables, probe_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.data.task import Role

EPSILON = 1e-10
READING = (
    Reading(
        "truth_ratio",
        "Truth ratio",
        FORGETTING,
        ("forget",),
        "How alike the model rates true and false answers. 1: alike, 0: one is far likelier. Should come up to "
        "the control model's.",
        "up",
        bars=True,
    ),
)


@dataclass(frozen=True)
class TruthRatio:
    """r = w / (c + 1e-10), TOFU (Maini et al. 2024, arXiv 2401.06121), as its code has it.

    c = exp(-mean loss) of the paraphrased answer (of the answer where there is no paraphrase); w = exp(-mean over the
    perturbed answers of their mean losses), a geometric mean. One result per probe set that has perturbed answers.
    """

    aggregate: Literal["paper", "prob_mean"] = "paper"
    """paper: min(r, 1/r) on forget, max(0, 1 - r) elsewhere; prob_mean: right / (right + wrong). By the paper's, 1 is
    where a model cannot tell right from wrong on forget items, and where it prefers what is right elsewhere; the other
    is c / (c + w + 1e-10) everywhere. Divisors have 1e-10 added."""

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    @property
    def reading(self) -> tuple[Reading, ...]:
        """Return how the metric as it is published is shown; its variants are in the table of all results."""
        return READING if self.aggregate == "paper" else ()

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        name = "truth_ratio" if self.aggregate == "paper" else f"truth_ratio_{self.aggregate}"
        items = {probe: self.items(tables, probe) for probe in probe_names(tables, "forget", "retain", "utility")}
        return [
            Result.mean(name, probe, values, probe_clusters(tables, [probe]))
            for probe, values in items.items()
            if not np.isnan(values).all()
        ]

    def items(self, tables: Tables, probe: str) -> np.ndarray:
        """Return what is averaged, for each item of one probe set: [n], nan where there are no perturbed answers."""
        right, wrong = right_and_wrong(tables, [probe])
        if self.aggregate == "prob_mean":
            found: np.ndarray = right / (right + wrong + EPSILON)
            return found
        r = ratio(right, wrong)
        return closer_to_one(r) if probe in probe_names(tables, "forget") else true_better(r)


def right_and_wrong(tables: Tables, probes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return c and w of each item: [n] each."""
    loss = losses(tables, probes)
    right = loss["paraphrase"].fillna(loss["answer"])
    return np.exp(-right.to_numpy()), np.exp(-loss["perturbed"].to_numpy())


def ratio(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return r = w / (c + 1e-10). The constant tells only for a collapsed model (c below about 1e-8)."""
    return wrong / (right + EPSILON)


def closer_to_one(r: np.ndarray) -> np.ndarray:
    """Return min(r, 1 / (r + 1e-10)): 1 where right and wrong are equally likely."""
    found: np.ndarray = np.minimum(r, 1 / (r + EPSILON))
    return found


def true_better(r: np.ndarray) -> np.ndarray:
    """Return max(0, 1 - r): 1 where only the right answer is likely."""
    found: np.ndarray = np.maximum(0, 1 - r)
    return found
