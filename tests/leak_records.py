"""Attacks whose outcomes are made up: K of four items on the three models, each eight times over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.leak_row import NONE, Row
from unlearn.leak.record import AttackedRole, AttackRun, Record

if TYPE_CHECKING:
    from unlearn.leak.leak_table import Leaks

TIMES = 8  # each K below stands for so many items: fewer would tell nothing from nothing
CLUSTERS = [str(i) for i in range(4 * TIMES)]
ALL, NOTHING = [1, 1, 1, 1], [0, 0, 0, 0]
Ks = dict[str, Sequence[float]]


def outcome(known: Sequence[float], variant: str = "only", **fields_: Any) -> Outcome:
    return Outcome(variant, np.tile(np.array(known, dtype=float), TIMES), **fields_)


def record(name: str, found: dict[AttackedRole, Sequence[Outcome]], threat: Any = "black", **attacked: Any) -> Record:
    """An attack of 2 s and 3 GFLOP on each model."""
    return Record(
        name,
        threat,
        "a family",
        "a paper",
        {t: AttackRun(AttackResult(os, **attacked), 2.0, 3.0) for t, os in found.items()},
    )


def attack(name: str, o: Sequence[float], u: Sequence[float], r: Sequence[float], **about: Any) -> Record:
    """An attack of one variant on the three models."""
    outcomes = {part: about.pop(part, {}) for part in ("original", "unlearned", "control")}
    parts: Any = zip(("original", "unlearned", "control"), (o, u, r), strict=True)
    return record(name, {part: [outcome(known, **outcomes[part])] for part, known in parts}, **about)


PLAIN = attack(NONE, ALL, NOTHING, NOTHING)


def rows(leaks: Leaks) -> dict[str, Row]:
    return {row.attack: row for row in leaks.rows}
