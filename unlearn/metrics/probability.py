"""Probability of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from unlearn.metrics.base import EDITING, FORGETTING, UTILITY, Reading, Result
from unlearn.metrics.columns import losses, probe_clusters
from unlearn.score.table import Tables, probe_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role

EPSILON = 1e-10
READING = (
    Reading(
        "probability",
        "Probability",
        FORGETTING,
        ("forget", "transfer"),
        "Probability of the true answer, per token. Should come down to the control model's.",
        "down",
        on_console=True,
        axis="forgetting",
        bars=True,
    ),
    Reading(
        "probability",
        "Probability",
        EDITING,
        ("injected",),
        "Probability of the injected answer. Should come up to 1.",
        "up",
        bars=True,
    ),
    Reading(
        "probability",
        "Probability",
        UTILITY,
        ("retain", "utility"),
        "Probability of the true answer. Should stay at the original's.",
        "up",
        on_console=True,
        axis="utility",
        bars=True,
    ),
)


@dataclass(frozen=True)
class Probability:
    """exp(-mean token loss), EOS included: the geometric mean probability of the candidate's tokens.

    TOFU (Maini et al. 2024, arXiv 2401.06121). One result per probe set, mean over its items. The answer of a probe set
    marked `normalise` counts against its wrong ones: p / (p + sum p_wrong + 1e-10).
    """

    candidate: Literal["answer", "paraphrase", "perturbed"] = "answer"
    """The answer, its paraphrase, or the perturbed answers (plain mean over the list)."""

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})

    @property
    def reading(self) -> tuple[Reading, ...]:
        """Return how the metric as it is published is shown; its variants are in the table of all results."""
        return READING if self.candidate == "answer" else ()

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        name = "probability" if self.candidate == "answer" else f"{self.candidate}_probability"
        items = {probe: self.items(tables, probe) for probe in probe_names(tables)}
        return [
            Result.mean(name, probe, p, probe_clusters(tables, [probe]))
            for probe, p in items.items()
            if not np.isnan(p).all()
        ]

    def items(self, tables: Tables, probe: str) -> np.ndarray:
        """Return the probability of each item of one probe set: [n], nan where it has no such candidate."""
        loss = losses(tables, [probe])
        if self.candidate == "perturbed":
            return loss["perturbed_mean"].to_numpy()
        p = np.exp(-loss[self.candidate].to_numpy())
        normalise = tables["tokens"].loc[tables["tokens"]["probe"] == probe, "normalise"].any()
        return normalised(p, loss["perturbed_sum"].to_numpy()) if normalise and self.candidate == "answer" else p


def normalised(p: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return p / (p + wrong + 1e-10), with `wrong` the summed probabilities of the wrong answers."""
    found: np.ndarray = p / (p + wrong + EPSILON)
    return found
