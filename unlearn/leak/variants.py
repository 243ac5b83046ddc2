"""What an attack shows on each of the three models, by part and variant: what its leak is estimated from."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.crossfit import Candidates

if TYPE_CHECKING:
    from unlearn.leak.record import AttackedRole, Record

Baseline = Literal["control", "placebo", "chance"]
LEAST_ROOM = 0.05  # of A_o - A_r: below, the attack destroyed the model or tells everyone the answer
ByRole = Mapping[str, Sequence[Outcome]]


def roles_of(baseline: Baseline) -> dict[str, AttackedRole | None]:
    """Return which role stands for which of the three models; None: chance."""
    last: AttackedRole | None = {"control": "control", "placebo": "placebo", "chance": None}[baseline]
    return {"original": "original", "unlearned": "unlearned", "control": last}


def parts(record: Record, baseline: Baseline) -> Iterable[tuple[str, ByRole]]:
    """Yield the rows of an attack: their names, and each model's outcomes."""
    by_model = {}
    for part, role in roles_of(baseline).items():
        outcomes = record.outcomes(role) if role else _guessed(record.runs["unlearned"].result)
        by_model[part] = {row: list(group) for row, group in groupby(sorted(outcomes, key=_by_row), key=_by_row)}
    for row in dict.fromkeys(outcome.row for outcome in record.outcomes("unlearned")):
        name = f"{record.name}_{row}" if row else record.name
        yield name, {part: rows[row] for part, rows in by_model.items()}


def _by_row(outcome: Outcome) -> str:
    return outcome.row


def _guessed(attacked: AttackResult) -> list[Outcome]:
    """Return what someone who guesses would have shown."""
    return [replace(o, known=np.where(np.isnan(o.known), np.nan, attacked.chance), texts=()) for o in attacked.outcomes]


def without_attack(plain: Record, baseline: Baseline, items: int) -> dict[str, np.ndarray]:
    """Return K of each item without an attack, by model, [V]; nan where a model could not be asked."""
    known = {}
    for part, role in roles_of(baseline).items():
        if role or not plain.outcomes("unlearned"):
            outcomes = plain.outcomes(role) if role else ()
        else:
            outcomes = _guessed(plain.runs["unlearned"].result)
        known[part] = outcomes[0].known if outcomes else np.full(items, math.nan)
    return known


def mean_over(known: Mapping[str, np.ndarray], candidates: Candidates, chosen: np.ndarray) -> dict[str, float]:
    """Return mean K by model over the items that the candidates could ask, as often as these were chosen [C]."""
    parts = (candidates.original, candidates.unlearned, candidates.control)
    asked = ~np.isnan(np.stack(parts)).any(axis=(0, 2))  # [C, V]
    weights = np.where(np.isnan(np.stack([*known.values()])).any(axis=0), 0.0, chosen @ asked)
    total = weights.sum()
    return {part: float(np.nansum(weights * of) / total) if total else math.nan for part, of in known.items()}


def candidates_of(by_role: ByRole) -> tuple[Candidates, list[tuple[str, ...]]]:
    """Return the variants that the attacker can choose from, and their names.

    There is one where the attacker's own items tell each model's best (by seed, so that it may go by several names). A
    variant with fewer seeds than another repeats them.
    """
    if all(outcome.self_estimate is not None for outcomes in by_role.values() for outcome in outcomes):
        best = {part: _best_by_seed(outcomes) for part, outcomes in by_role.items()}
        arrays = {part: np.stack([o.known for o in outcomes])[None] for part, outcomes in best.items()}
        variants = sorted({outcome.variant for outcome in best["unlearned"]})
        return Candidates(**arrays), [tuple(variants)]
    names = list(dict.fromkeys(outcome.variant for outcome in by_role["unlearned"]))
    seeds = np.arange(max(Counter(outcome.variant for outcome in by_role["unlearned"]).values()))
    arrays = {}
    for part, outcomes in by_role.items():
        runs = [np.stack([o.known for o in outcomes if o.variant == name]) for name in names]
        arrays[part] = np.stack([known[seeds % len(known)] for known in runs])
    return Candidates(**arrays), [(name,) for name in names]


def with_room(candidates: Candidates, variants: list[tuple[str, ...]]) -> tuple[Candidates, list[tuple[str, ...]]]:
    """Return the variants under which there is something to leak, by all items; all where there is no such one.

    The attack is on the original and the control, and does not look at the unlearned model.
    """
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of variants that cannot ask any item
        room = np.nanmean(candidates.original - candidates.control, axis=(1, 2))
    keep = np.flatnonzero(room >= LEAST_ROOM)
    if not len(keep):
        return candidates, variants
    arrays = {name: getattr(candidates, name)[keep] for name in ("original", "unlearned", "control")}
    return Candidates(**arrays), [variants[i] for i in keep]


def _best_by_seed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    seeds = dict.fromkeys(outcome.seed for outcome in outcomes)
    return [max((o for o in outcomes if o.seed == seed), key=lambda o: _estimate(o)) for seed in seeds]


def _estimate(outcome: Outcome) -> float:
    assert outcome.self_estimate is not None
    return outcome.self_estimate if math.isfinite(outcome.self_estimate) else -math.inf
