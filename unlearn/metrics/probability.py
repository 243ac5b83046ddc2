"""Probability of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import losses
from unlearn.score.table import Scores

EPSILON = 1e-10


@dataclass(frozen=True)
class Probability:
    """exp(-mean token loss), EOS included: the geometric mean probability of the candidate's tokens (TOFU, Maini et al.
    2024, arXiv 2401.06121). One result per probe set, mean over its items.

    candidate: the answer, its paraphrase, or the perturbed answers (plain mean over the list).
    The answer of a probe set marked `normalise` counts against its wrong ones: p / (p + sum p_wrong + 1e-10).
    """

    candidate: Literal["answer", "paraphrase", "perturbed"] = "answer"

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        name = "probability" if self.candidate == "answer" else f"{self.candidate}_probability"
        items = {probe: self.items(scores, probe) for probe in scores.probe_names()}
        return [Result.mean(name, probe, p) for probe, p in items.items() if not np.isnan(p).all()]

    def items(self, scores: Scores, probe: str) -> np.ndarray:
        """Probability of each item of one probe set: [n], nan where it has no such candidate."""
        loss = losses(scores, [probe])
        if self.candidate == "perturbed":
            return loss["perturbed_mean"].to_numpy()
        p = np.exp(-loss[self.candidate].to_numpy())
        normalise = scores.tokens.loc[scores.tokens["probe"] == probe, "normalise"].any()
        return normalised(p, loss["perturbed_sum"].to_numpy()) if normalise and self.candidate == "answer" else p


def normalised(p: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """p / (p + wrong + 1e-10), with `wrong` the summed probabilities of the wrong answers."""
    found: np.ndarray = p / (p + wrong + EPSILON)
    return found
