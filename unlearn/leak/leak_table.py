"""The leak table: a row per attack, the worst case per threat level, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.leak.crossfit import Candidates, estimate
from unlearn.leak.ladder import LadderStep, ladder_of, with_cost
from unlearn.leak.leak_row import NONE, Row, average, failure_row, row_of, told_from_shuffled
from unlearn.leak.variants import Baseline, candidates_of, mean_over, parts, with_room, without_attack
from unlearn.leak.worst_case import Worst, baseline_notes, size_notes, smallest_leak, worst_case

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """The worst case of each threat level that was tried, "overall" last."""
    baseline: Baseline
    """Who never learned."""
    notes: tuple[str, ...] = ()
    """What the verdict leaves open."""

    @property
    def overall(self) -> Worst:
        """Return the worst case over all attacks."""
        return self.worst[-1]


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
    entrants: dict[str, tuple[Row, Candidates]] = {}
    for record in records:
        if failure := failure_row(record, baseline, len(clusters)):
            rows.append(failure)
            continue
        for name, by_role in parts(record, baseline):
            candidates, variants = with_room(*candidates_of(by_role))
            found = estimate(candidates, clusters, seed)
            row = row_of(record, name, by_role, found, variants, mean_over(known, candidates, found.chosen), kept)
            ladder = ladder_of(name, by_role, clusters, seed)
            ladder_steps += ladder
            rows.append(row := with_cost(row, ladder))
            if row.counts and row.status == "ok" and record.name != NONE:
                entrants[name] = row, candidates
    rows = [told_from_shuffled(row, rows) for row in rows]
    entrants = {name: entrants[name] for name in (row.attack for row in rows if row.status == "ok") if name in entrants}
    worst = []
    for threat in (*THREATS, "overall"):
        field_ = {n: c for n, (row, c) in entrants.items() if threat in (row.threat, "overall")}
        if field_ or threat == "overall":
            smallest = smallest_leak(baseline, [entrants[name][0].measure or answer_metric for name in field_])
            worst.append(worst_case(threat, field_, clusters, seed, smallest))
    notes = (*baseline_notes(smallest), *size_notes(worst[-1], clusters))
    return Leaks(tuple(rows), tuple(ladder_steps), tuple(worst), baseline, notes)
