"""How good a metric itself is: whether it tells what a model knows, and whether disturbing the model changes that.

The meta-evaluation of OpenUnlearning (Dorna et al. 2025, arXiv 2506.12618, section 4). Here m is a metric's value on a
model, turned so that more of it means more knowledge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearn.metrics.intervals import auc_score_interval, mean_interval
from unlearn.metrics.statistics import Interval, auc, harmonic_mean

Reading = Literal["m", "1 - m", "-m", "none"]
FEWEST = 3  # models of which an interval is made
MEASURES = {"faithfulness": "faithfulness", "relearning": "relearning R", "quantization": "quantization Q"}
"""What is measured of a metric, with an interval: fields of Quality, and what a table calls them."""
WORDS = (
    "Faithfulness: AUC of telling models with the knowledge from models without it. R, Q: how little more the metric "
    "finds in an unlearned model after relearning (beside a relearned control model) and after 4-bit quantization, "
    "mean over the n unlearned models that kept their utility and which the metric calls unlearned. robustness: "
    "harmonic mean of R and Q; overall: of faithfulness and robustness. 1 is best. Brackets: 95% intervals over models."
)
"""What that means, for whoever reads the table."""


@dataclass(frozen=True)
class Pool:
    """One metric on all models, read so that more means more knowledge (see `reading`)."""

    knowing: np.ndarray
    """Models with the knowledge, [p]."""
    ignorant: np.ndarray
    """Models without it, [n]."""
    unlearned: np.ndarray
    """Unlearned models as they are, [u]."""
    relearned: np.ndarray
    """The same after relearning, [u]."""
    quantised: np.ndarray
    """The same after quantisation, [u]."""
    control: np.ndarray
    """The control model that belongs to each of them, [u]."""
    control_relearned: np.ndarray
    """The same after relearning, [u]."""
    useful: np.ndarray
    """Whether each unlearned model kept its utility, [u]; the others do not count."""


@dataclass(frozen=True)
class Quality:
    """What a metric is worth; each number in [0, 1], 1 is best, nan where undefined. Intervals are of 95 %."""

    faithfulness: float
    """AUC of telling the models with the knowledge from those without."""
    faithfulness_interval: Interval
    """A score interval of the AUC."""
    threshold: float
    """Where it parts the two."""
    relearning: float
    """Mean of R over the `n` models."""
    relearning_interval: Interval
    """Over models: a bootstrap, Student's t below 8."""
    quantization: float
    """Mean of Q over them."""
    quantization_interval: Interval
    """Over models: a bootstrap, Student's t below 8."""
    n: int
    """How many unlearned models count: those that are useful and that the metric calls unlearned (below the
    threshold)."""

    @property
    def robustness(self) -> float:
        """Return the harmonic mean of relearning and quantization."""
        return float(harmonic_mean(np.array([self.relearning, self.quantization])))

    @property
    def overall(self) -> float:
        """Return the harmonic mean of faithfulness and robustness."""
        return float(harmonic_mean(np.array([self.faithfulness, self.robustness])))


def quality(pool: Pool) -> Quality:
    """Return the meta-evaluation of one metric."""
    value = auc(pool.ignorant, pool.knowing)
    cut = threshold(pool.knowing, pool.ignorant)
    counted = pool.useful & (pool.unlearned < cut)
    r = relearning(pool.unlearned, pool.relearned, pool.control, pool.control_relearned)[counted]
    q = quantization(pool.unlearned, pool.quantised)[counted]
    return Quality(
        value,
        auc_score_interval(value, len(pool.knowing), len(pool.ignorant)),
        cut,
        float(r.mean()) if len(r) else math.nan,
        _interval(r),
        float(q.mean()) if len(q) else math.nan,
        _interval(q),
        int(counted.sum()),
    )


def reading(values: np.ndarray, original: float, control: float) -> Reading:
    """Return how a metric's values are to be read so that more means more knowledge.

    Two models outside of all pools say it, of which one knows (original) and one does not (control): "m", as they are;
    else "1 - m" where all values are in [0, 1], "-m" where not. "none" where the two models do not differ.
    """
    if math.isnan(original - control) or original == control:
        return "none"
    if original > control:
        return "m"
    known = values[~np.isnan(values)]
    return "1 - m" if ((known >= 0) & (known <= 1)).all() else "-m"


def read(values: np.ndarray, how: Reading) -> np.ndarray:
    """Return the values, read so; all nan where they cannot be."""
    return {"m": values, "1 - m": 1 - values, "-m": -values, "none": np.full_like(values, math.nan)}[how]


def threshold(knowing: np.ndarray, ignorant: np.ndarray) -> float:
    """Return the value t for which (share of knowing >= t) + (share of ignorant < t) is largest.

    It is midway between two neighbouring values, the lowest where several serve. nan where all values are equal, or any
    is nan.
    """
    values = np.unique(np.concatenate([knowing, ignorant]))
    if len(values) < 2 or np.isnan(values).any():
        return math.nan
    cuts = (values[1:] + values[:-1]) / 2
    right = [(knowing >= cut).mean() + (ignorant < cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(right))])


def relearning(
    unlearned: np.ndarray, relearned: np.ndarray, control: np.ndarray, control_relearned: np.ndarray
) -> np.ndarray:
    """Return R = min(r, 1), r = (control model's m after - before) / (unlearned model's m after - before): [u].

    A metric that saw all there was of the knowledge does not rise faster on an unlearned model than on one that never
    knew. R is 1 where the unlearned model does not rise, and not below 0.
    """
    own, other = relearned - unlearned, control_relearned - control
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(own > 0, np.clip(other / own, 0, 1), 1.0)
    return np.where(np.isnan(own + other), math.nan, r)


def quantization(unlearned: np.ndarray, quantised: np.ndarray) -> np.ndarray:
    """Return Q = min(q, 1), q = m before / m after: [u]. Below 1 where rounding brings back what seemed gone.

    1 where m is 0 afterwards. All nan where any value is negative: such a metric has no zero, and so no ratio.
    """
    if (np.concatenate([unlearned, quantised]) < 0).any():
        return np.full(len(unlearned), math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(quantised > 0, np.minimum(unlearned / quantised, 1), 1.0)
    return np.where(np.isnan(unlearned + quantised), math.nan, q)


def _interval(values: np.ndarray) -> Interval:
    return mean_interval(values) if len(values) >= FEWEST and not np.isnan(values).any() else (math.nan, math.nan)


@dataclass(frozen=True)
class Scored:
    """A model, and what the audited metrics say of it."""

    pool: str
    """One of "knowing", "ignorant" and "unlearned", or one of those changed. "relearned" and "quantised" are the
    unlearned ones so changed, "control relearned" the control model."""
    name: str
    """What it learned beside the retain set, or the method."""
    seed: int
    """That of its training."""
    values: Mapping[str, float]
    """What the audited metrics say of it, by key."""
    utility: float
    """Its model utility."""


@dataclass(frozen=True)
class Verdict:
    """What one metric is worth."""

    metric: str
    """Its key."""
    reading: Reading
    """How its values m are read so that more means more knowledge."""
    quality: Quality
    """Its quality, read so."""


def verdicts_on(scored: Sequence[Scored], original: Scored, control: Scored, least_utility: float) -> list[Verdict]:
    """Return the verdict on every metric, the best first. original, control: the two models outside of the pools."""
    found = {(model.pool, model.name, model.seed): model for model in scored}
    knowing, ignorant, unlearned = (
        [model for model in scored if model.pool == pool] for pool in ("knowing", "ignorant", "unlearned")
    )
    useful = [not u.utility < least_utility * found["knowing", "full", u.seed].utility for u in unlearned]
    sides = {
        "knowing": knowing,
        "ignorant": ignorant,
        "unlearned": unlearned,
        "relearned": [found["relearned", u.name, u.seed] for u in unlearned],
        "quantised": [found["quantised", u.name, u.seed] for u in unlearned],
        "control": [found["ignorant", "control", u.seed] for u in unlearned],
        "control_relearned": [found["control relearned", "control", u.seed] for u in unlearned],
    }
    verdicts = []
    for metric, known in original.values.items():
        values = {name: np.array([m.values.get(metric, math.nan) for m in side]) for name, side in sides.items()}
        how = reading(np.concatenate([*values.values()]), known, control.values.get(metric, math.nan))
        pool = Pool(**{name: read(side, how) for name, side in values.items()}, useful=np.array(useful, dtype=bool))
        verdicts.append(Verdict(metric, how, quality(pool)))
    return sorted(verdicts, key=lambda v: [_last(v.quality.overall), _last(v.quality.faithfulness)])


def _last(value: float) -> float:
    """Return what sorts the largest first and nan last."""
    return math.inf if math.isnan(value) else -value
