"""The leak table: a row per attack, the worst case per threat level, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from unlearn.attacks.base import MEMBERSHIP, AnswerMetric, Threat
from unlearn.leak.bounds import FEWEST_CLUSTERS, Family, Sums, bounds_of
from unlearn.leak.crossfit import Candidates, Estimate, estimate
from unlearn.leak.ladder import LadderStep, ladder_of, with_cost
from unlearn.leak.leak_row import NONE, Row, average, broken, failure_row, row_of, told_from_shuffled
from unlearn.leak.record import Record
from unlearn.leak.sensitivity import Noise, could_see
from unlearn.leak.variants import Baseline, ByRole, candidates_of, mean_over, parts, with_room, without_attack
from unlearn.leak.verdict import (
    ALL,
    FEWEST_ITEMS,
    LEAKS,
    NO_LEAK,
    Judged,
    Worst,
    allowance,
    baseline_notes,
    size_notes,
    worst_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.attacks.base import AnswerMetric, Threat
    from unlearn.leak.record import Record

THREATS: tuple[Threat, ...] = ("black", "grey", "white")


@dataclass(frozen=True)
class Leaks:
    """The whole report."""

    rows: tuple[Row, ...]
    """A row per attack or part of one, the one without an attack first."""
    ladder_steps: tuple[LadderStep, ...]
    """Attacks with several budgets, at each of them."""
    worst: tuple[Worst, ...]
    """The verdict on each threat level that was tried, and how bad its worst attack is, "overall" last."""
    baseline: Baseline
    """Who never learned."""
    notes: tuple[str, ...] = ()
    """What the verdict leaves open."""

    @property
    def overall(self) -> Worst:
        """Return the verdict on all attacks."""
        return self.worst[-1]


@dataclass(frozen=True)
class _Made:
    """An attack, or a part of one, that was made on all models."""

    row: Row
    by_role: ByRole
    candidates: Candidates
    found: Estimate

    @property
    def membership(self) -> bool:
        return self.row.measure == MEMBERSHIP

    @property
    def counted(self) -> bool:
        return self.row.counts and self.row.status == "ok" and self.row.attack != NONE


def leak_report(
    records: Sequence[Record],
    clusters: Sequence[str],
    baseline: Baseline,
    seed: int = 0,
    answer_metric: AnswerMetric = "match",
) -> Leaks:
    """Return the report of several attacks on the same scored items, whose clusters are given, [V].

    records: the one named "none" first, whose outcomes are the models without an attack. answer_metric: what K is,
    where an attack does not say otherwise.
    """
    plain = next(record for record in records if record.name == NONE)
    known = without_attack(plain, baseline, len(clusters))
    kept = {role: average(o.utility for o in plain.outcomes(role)) for role in ("original", "unlearned")}
    rows: list[Row] = []
    ladder_steps: list[LadderStep] = []
    made: dict[str, _Made] = {}
    for record in records:
        if failure := failure_row(record, baseline, len(clusters)):
            rows.append(failure)
            continue
        for name, by_role in parts(record, baseline):
            candidates, variants = with_room(*candidates_of(by_role))
            found = estimate(candidates, clusters, seed)
            row = row_of(record, name, by_role, found, variants, mean_over(known, candidates, found.chosen))
            ladder = ladder_of(name, by_role, clusters, seed)
            ladder_steps += ladder
            rows.append(with_cost(row, ladder))
            made[name] = _Made(rows[-1], by_role, candidates, found)
    rows = [told_from_shuffled(row, rows) for row in rows]
    made = {row.attack: replace(made[row.attack], row=row) for row in rows if row.attack in made}
    bounded = _bounded(made, clusters, seed)
    rows = [broken(bounded[r.attack], made[r.attack].by_role, kept) if r.attack in made else r for r in rows]
    made = {row.attack: replace(made[row.attack], row=row) for row in rows if row.attack in made}
    worst, allowed = _judged(
        {n: one for n, one in made.items() if one.counted}, clusters, seed, baseline, answer_metric
    )
    could = {row.attack: row.could_find for row in rows if row.attack in made and made[row.attack].counted}
    return Leaks(
        tuple(rows), tuple(ladder_steps), worst, baseline, (*baseline_notes(allowed), *size_notes(clusters, could))
    )


def _bounded(made: Mapping[str, _Made], clusters: Sequence[str], seed: int) -> dict[str, Row]:
    """Return the rows with their bounds: those that count have them together, each of the others on its own.

    An attack that would not find even a leak of everything stands alone, too: the little room that it has may be luck.
    """
    counted = {name: one for name, one in made.items() if one.counted}
    could = could_see(
        {name: Noise.of(one.candidates, clusters, one.membership) for name, one in counted.items()}, NO_LEAK
    )
    rows = _together({name: one for name, one in counted.items() if could[name] <= ALL}, could, clusters, seed)
    for name, one in made.items():
        if name not in rows:
            rows[name] = replace(one.row, could_find=could.get(name, math.nan))
            if one.row.status == "ok":
                alone = _together({name: one}, {name: math.inf}, clusters, seed)[name]
                rows[name] = replace(rows[name], low=alone.low, high=alone.high)
    return rows


def _together(
    made: Mapping[str, _Made], could: Mapping[str, float], clusters: Sequence[str], seed: int
) -> dict[str, Row]:
    """Return the rows of these attacks with their simultaneous bounds; could: see `could_see`."""
    able = np.array([could[name] <= NO_LEAK for name in made], bool)
    sums = [Sums.of(one.found.read, clusters, one.membership) for one in made.values()]
    two_sided = [name for name, one in made.items() if one.membership]
    reads = [estimate(made[name].candidates.mirrored(), clusters, seed).read for name in two_sided]
    removed = [Sums.of(read, clusters, resampled=True) for read in reads]
    bounds = bounds_of(Family(sums, removed), able, (0.0, LEAKS), NO_LEAK)
    enough = len(set(clusters)) >= FEWEST_CLUSTERS and len(clusters) >= FEWEST_ITEMS
    below = {name: bool(is_so) and enough for name, is_so in zip(two_sided, bounds.removed, strict=True)}
    return {
        name: replace(
            one.row,
            low=float(bounds.low[i]),
            high=float(bounds.high[i]),
            could_find=could[name],
            able=bool(able[i]),
            removed=below.get(name, False),
        )
        for i, (name, one) in enumerate(made.items())
    }


def _judged(
    made: Mapping[str, _Made], clusters: Sequence[str], seed: int, baseline: Baseline, answer_metric: AnswerMetric
) -> tuple[tuple[Worst, ...], float]:
    """Return the worst cases by threat level and overall, and the largest allowance of an attack."""
    allowed = {name: allowance(baseline, one.row.measure or answer_metric) for name, one in made.items()}
    judged = {
        name: Judged(row.low, row.high, row.able, allowed[name] if row.could_find <= ALL else math.inf)
        for name, row in ((name, one.row) for name, one in made.items())
    }
    candidates = {name: one.candidates for name, one in made.items()}
    worst = []
    for threat in (*THREATS, "overall"):
        level = {name: one for name, one in judged.items() if threat in (made[name].row.threat, "overall")}
        if level or threat == "overall":
            worst.append(worst_of(threat, level, candidates, clusters, seed))
    return tuple(worst), max(allowed.values(), default=0.0)
