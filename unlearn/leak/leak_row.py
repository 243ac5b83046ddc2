"""A row of the leak table: an attack, or a part of one, on all three models."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from unlearn.attacks.base import Threat
from unlearn.leak.record import Record, Status
from unlearn.leak.variants import LEAST_ROOM, Baseline, ByRole, roles_of
from unlearn.leak.verdict import LEAKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unlearn.leak.crossfit import Estimate

NONE = "none"  # the row without an attack
SHUFFLED = "_shuffled"  # ends the name of an attack's control: fitted to answers in random order
BROKEN = 0.1  # of the original's K on retain probes: a model that shows less has forgotten everything


@dataclass(frozen=True)
class Row:
    """An attack, or a part of one; numbers are nan where there are none."""

    attack: str
    """Its name in the table; a part's is behind that of the attack."""
    family: str
    """What kind of attack it is."""
    threat: Threat
    """What the attacker has of the model."""
    data: str
    """What data the attacker holds."""
    budget: str
    """What the attacker spends, in words."""
    original: float = math.nan
    """A_o under the attack: mean K over the scored items that it could ask."""
    unlearned: float = math.nan
    """A_u under the attack."""
    control: float = math.nan
    """A_r under the attack."""
    before: float = math.nan
    """A_u without an attack, over the same items."""
    gain: float = math.nan
    """(A_u(a) - A_u(0)) / (A_o(0) - A_r(0)), all over these items, which counts what the attack trained on, too."""
    excess: float = math.nan
    """A_u - A_r."""
    leak: float = math.nan
    """(A_u - A_r) / (A_o - A_r)."""
    low: float = math.nan
    """Lower bound of the leak, which holds together with those of all attacks that count (else on its own)."""
    high: float = math.nan
    """Upper bound, likewise."""
    on_attacker_items: float = math.nan
    """Mean K of the unlearned model on the attacker's own items."""
    utility: float = math.nan
    """Mean K on retain probes."""
    seconds: float = math.nan
    """Of the whole attack on all models [s], the same in each of its rows."""
    gflop: float = math.nan
    """Its arithmetic [GFLOP], likewise."""
    status: Status = "ok"
    """Whether something follows from it."""
    reason: str = ""
    """Why nothing does, where that is so."""
    variant: str = ""
    """The one chosen most often."""
    counts: bool = True
    """Whether the worst case may be this one."""
    cost: float = math.nan
    """The smallest budget at which half is recovered, see `recovery`."""
    area: float = math.nan
    """The mean leak over log budget, see `recovery`."""
    reference: str = ""
    """The paper that it comes from."""
    measure: str = ""
    """What the numbers are where they are not the report's knowledge ("AUC")."""
    with_original: bool = False
    """Whether the attacker needs the model before unlearning, too."""
    could_find: float = math.nan
    """The smallest leak that it would have found, with a power of 0.8; see `could_see`."""
    able: bool = False
    """Whether it counts and could have seen a leak of 0.25."""
    removed: bool = False
    """Whether rows are known less than by the control for sure: membership then tells that something was removed."""


def row_of(
    record: Record,
    name: str,
    by_role: ByRole,
    found: Estimate,
    variants: Sequence[Sequence[str]],
    before: Mapping[str, float],
) -> Row:
    """Return the row of an attack, or of a part of one, yet without bounds.

    by_role: its outcomes on each model; found: what was estimated from the variants, which go by the names `variants`.
    before: mean K without an attack, by model.
    """
    attacked = record.runs["unlearned"].result
    mine = by_role["unlearned"]
    chosen = variants[int(found.chosen.argmax())]
    shown = [o for o in mine if o.variant in chosen]
    measure = mine[0].measure or attacked.measure
    same_measure = not measure
    span = before["original"] - before["control"]
    gain = (found.unlearned - before["unlearned"]) / span if same_measure and span >= LEAST_ROOM else math.nan
    reason = _uninformative(found, max(outcome.min_original for outcome in mine))
    return Row(
        name,
        record.family,
        record.threat,
        attacked.data,
        attacked.budget,
        found.original,
        found.unlearned,
        found.control,
        before["unlearned"] if same_measure else math.nan,
        gain,
        found.excess,
        math.nan if reason else found.leak,
        on_attacker_items=average(o.on_attacker_items for o in shown),
        utility=average(o.utility for o in shown),
        seconds=sum(f.seconds for f in record.runs.values()),
        gflop=sum(f.gflop for f in record.runs.values()),
        status="uninformative" if reason else "ok",
        reason=reason,
        variant=" / ".join(chosen),
        counts=all(outcome.counts for outcome in mine),
        reference=record.reference,
        measure=measure,
        with_original=any(outcome.with_original for outcome in mine),
    )


def _uninformative(found: Estimate, min_original: float) -> str:
    """Return why nothing follows from an attack; "" where something does. min_original: of A_o."""
    if math.isnan(found.room):
        return "no item could be asked of every model"
    if found.room < LEAST_ROOM:
        than = f"{found.room:.2f} more" if found.room >= 0 else f"{-found.room:.2f} less"
        return f"the attacked original shows {than} than the control: nothing to leak"
    if found.original <= 0:  # of choices, which are corrected for chance
        return f"the attacked original shows {found.original:.2f}, no more than guessing: nothing to leak"
    if found.original < min_original:
        shown = f"the attacked original shows {found.original:.2f}"
        return f"{shown}: below {min_original:g} nothing follows from such an attack"
    return ""


def broken(row: Row, by_role: ByRole, kept: Mapping[str, float]) -> Row:
    """Return the row, uninformative where the attacked model has lost what it should keep, and no leak is sure.

    by_role: the outcomes of each model; kept: utility without an attack, by model.
    """
    variants = row.variant.split(" / ")
    utility = {part: average(o.utility for o in by_role[part] if o.variant in variants) for part in kept}
    utility = {part: kept[part] if math.isnan(value) else value for part, value in utility.items()}
    if row.status != "ok" or not utility["unlearned"] < BROKEN * utility["original"] or row.low > LEAKS:
        return row
    reason = (
        f"the unlearned model shows {utility['unlearned']:.2f} of what it should have kept, the original "
        f"{utility['original']:.2f}: it is broken, and that it shows nothing of the rest is no forgetting"
    )
    return uninformative(row, reason)


def uninformative(row: Row, reason: str) -> Row:
    """Return the row as one from which nothing follows."""
    nan = math.nan
    return replace(row, status="uninformative", reason=reason, leak=nan, low=nan, high=nan, able=False, removed=False)


def average(values: Iterable[float | None]) -> float:
    """Return the mean of what is not None; nan where nothing is left."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else math.nan


def failure_row(record: Record, baseline: Baseline, items: int) -> Row | None:
    """Return the row of an attack that was not made, broke, or asked models differently; None: all is well.

    items: how many were scored.
    """
    failure = record.failure
    asked = [
        {(o.row, o.variant, len(o.known)) for o in record.outcomes(role)}
        for role in roles_of(baseline).values()
        if role
    ]
    status: Status
    if failure:
        status, reason = failure.status, failure.reason
    elif not all(asked):
        status, reason = "skipped", "it was not made on every model"
    elif any(these != asked[0] for these in asked) or any(n != items for *_, n in asked[0]):
        status, reason = "error", "the models were not asked the same: its outcomes differ in variants or items"
    else:
        return None
    return Row(
        record.name, record.family, record.threat, "", "", status=status, reason=reason, reference=record.reference
    )


def told_from_shuffled(row: Row, rows: Sequence[Row]) -> Row:
    """Return the row, uninformative where it leaks no more than when fitted to shuffled answers.

    That is so only where it leaks more than plain questions.
    """
    leaks = {other.attack: other.leak for other in rows}
    baseline, plain = leaks.get(row.attack + SHUFFLED, math.nan), leaks[NONE]
    if row.status != "ok" or not baseline >= row.leak > max(0.0, plain):
        return row
    reason = f"fitted to answers in random order it leaks as much ({baseline:.2f} to {row.leak:.2f})"
    return uninformative(row, reason)
