"""Model utility: what the model still does well apart from the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.metrics.base import UTILITY, Reading, Result
from unlearn.metrics.columns import probe_clusters
from unlearn.metrics.intervals import basis, harmonic_mean_interval
from unlearn.metrics.probability import Probability
from unlearn.metrics.rouge import Rouge
from unlearn.metrics.statistics import harmonic_mean
from unlearn.metrics.truth_ratio import TruthRatio
from unlearn.score.table import Tables, probe_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role


@dataclass(frozen=True)
class ModelUtility:
    """Harmonic mean of probability, ROUGE-L recall and truth ratio over all retain and utility probe sets.

    Nine numbers in TOFU (Maini et al. 2024, arXiv 2401.06121); 0 as soon as one of them is 0.

    Sets that are never generated from (multiple choice; see ProbeSet) have no ROUGE and do not count. The interval
    resamples the clusters of each probe set, the same ones for the three numbers.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens", "generations"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "model_utility",
            "Model utility",
            UTILITY,
            ("",),
            "Harmonic mean of the scores on all sets that should stay: 0 as soon as one is 0. Should stay at the "
            "original's.",
            "up",
            on_console=True,
            axis="utility",
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        generated = set(tables["generations"]["probe"])
        probes = [p for p in probe_names(tables, "retain", "utility") if p in generated or not generated]
        parts: dict[str, Probability | Rouge | TruthRatio] = {
            "probability": Probability(),
            "generated answers": Rouge(),
            "perturbed answers": TruthRatio(),
        }
        groups = [{what: metric.items(tables, probe) for what, metric in parts.items()} for probe in probes]
        for probe, group in zip(probes, groups, strict=True):
            for what, items in group.items():
                if np.isnan(items).all():
                    return [Result.undefined("model_utility", "", f"no {what} of probe set '{probe}'")]
        if not groups:
            return [Result.undefined("model_utility", "", "no retain or utility probe set")]
        arrays = [list(group.values()) for group in groups]
        value = harmonic_mean(np.array([np.nanmean(items) for group in arrays for items in group]))
        about = [probe_clusters(tables, [probe]) for probe in probes]
        n = sum(len(group[0]) for group in arrays)
        ends = harmonic_mean_interval(arrays, about)
        return [Result("model_utility", "", float(value), *ends, n, note=basis(*about))]
