"""Model utility: what the model still does well apart from the forget set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.probability import Probability
from unlearn.metrics.rouge import Rouge
from unlearn.metrics.statistics import bootstrap_harmonic_mean, harmonic_mean
from unlearn.metrics.truth_ratio import TruthRatio
from unlearn.score.table import Scores


@dataclass(frozen=True)
class ModelUtility:
    """Harmonic mean of probability, ROUGE-L recall and truth ratio over all retain and utility probe sets (nine numbers
    in TOFU, Maini et al. 2024, arXiv 2401.06121). 0 as soon as one of them is 0.

    Sets that are never generated from (multiple choice; see ProbeSet) have no ROUGE and do not count. The interval
    resamples the items of each probe set, the same ones for the three numbers.
    """

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        generated = set(scores.generations["probe"])
        probes = [p for p in scores.probe_names("retain", "utility") if p in generated or not generated]
        parts: dict[str, Probability | Rouge | TruthRatio] = {
            "probability": Probability(),
            "generated answers": Rouge(),
            "perturbed answers": TruthRatio(),
        }
        groups = [{what: metric.items(scores, probe) for what, metric in parts.items()} for probe in probes]
        for probe, group in zip(probes, groups, strict=True):
            for what, items in group.items():
                if np.isnan(items).all():
                    return [Result.undefined("model_utility", "", f"no {what} of probe set '{probe}'")]
        if not groups:
            return [Result.undefined("model_utility", "", "no retain or utility probe set")]
        arrays = [list(group.values()) for group in groups]
        value = harmonic_mean(np.array([np.nanmean(items) for group in arrays for items in group]))
        n = sum(len(group[0]) for group in arrays)
        return [Result("model_utility", "", float(value), *bootstrap_harmonic_mean(arrays), n)]
