"""Truth ratio: how likely wrong answers are beside the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn.metrics.base import Result
from unlearn.metrics.columns import losses
from unlearn.score.table import Scores

EPSILON = 1e-10


@dataclass(frozen=True)
class TruthRatio:
    """r = w / (c + 1e-10), TOFU (Maini et al. 2024, arXiv 2401.06121), as its code has it.

    c = exp(-mean loss) of the paraphrased answer (of the answer where there is no paraphrase); w = exp(-mean over the
    perturbed answers of their mean losses), a geometric mean. One result per probe set that has perturbed answers.
    aggregate "paper": mean of min(r, 1 / (r + 1e-10)) over forget items (1: cannot tell right from wrong), mean of
    max(0, 1 - r) elsewhere (1: prefers what is right). "prob_mean": mean of c / (c + w + 1e-10) everywhere.
    """

    aggregate: Literal["paper", "prob_mean"] = "paper"

    def __call__(self, scores: Scores, control: Scores | None) -> list[Result]:
        name = "truth_ratio" if self.aggregate == "paper" else f"truth_ratio_{self.aggregate}"
        items = {probe: self.items(scores, probe) for probe in scores.probe_names("forget", "retain", "utility")}
        return [Result.mean(name, probe, values) for probe, values in items.items() if not np.isnan(values).all()]

    def items(self, scores: Scores, probe: str) -> np.ndarray:
        """What is averaged, for each item of one probe set: [n], nan where there are no perturbed answers."""
        right, wrong = right_and_wrong(scores, [probe])
        if self.aggregate == "prob_mean":
            found: np.ndarray = right / (right + wrong + EPSILON)
            return found
        r = ratio(right, wrong)
        return closer_to_one(r) if probe in scores.probe_names("forget") else true_better(r)


def right_and_wrong(scores: Scores, probes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """c and w of each item: [n] each."""
    loss = losses(scores, probes)
    right = loss["paraphrase"].fillna(loss["answer"])
    return np.exp(-right.to_numpy()), np.exp(-loss["perturbed"].to_numpy())


def ratio(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """r = w / (c + 1e-10). The constant tells only for a collapsed model (c below about 1e-8)."""
    return wrong / (right + EPSILON)


def closer_to_one(r: np.ndarray) -> np.ndarray:
    """min(r, 1 / (r + 1e-10)): 1 where right and wrong are equally likely."""
    found: np.ndarray = np.minimum(r, 1 / (r + EPSILON))
    return found


def true_better(r: np.ndarray) -> np.ndarray:
    """max(0, 1 - r): 1 where only the right answer is likely."""
    found: np.ndarray = np.maximum(0, 1 - r)
    return found
