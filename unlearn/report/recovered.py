"""Examples of answers that an attack brought back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from unlearn.attacks.base import Outcome
from unlearn.leak.ladder import RECOVERED
from unlearn.leak.leak_row import NONE
from unlearn.report.attacks_folder import Asked, Attacks

if TYPE_CHECKING:
    from unlearn.leak.record import AttackedRole

SHOWN = 6


@dataclass(frozen=True)
class Example:
    """An item that an attack brought back: what the unlearned model said before and under the attack."""

    asked: Asked
    before: str
    after: str
    attack: str
    variant: str


@dataclass(frozen=True)
class Recovered:
    """Scored items [n] that only the attacked unlearned model shows.

    Neither it, asked plainly, nor the control under that attack does. reverse: how many only the attacked control
    shows, which luck alone explains; None where the control is asked other items, or none.
    """

    examples: Sequence[Example] = ()
    count: int = 0
    reverse: int | None = None
    n: int = 0


@dataclass
class _Part:
    """An attack's row: what it brought back [V], and the K of the best variant for each item."""

    name: str
    leak: float
    outcomes: list[Outcome] = field(default_factory=list)
    control: list[Outcome] = field(default_factory=list)


def recovered(attacks: Attacks, limit: int = SHOWN) -> Recovered:
    """Who shows what, over the attacks that count. An item is shown where K >= 0.5, by any variant and seed.

    Examples take turns between the attacks, the most leaking first.
    """
    plain = attacks.run_of(NONE, "unlearned")
    items = attacks.items()
    if plain is None or not plain.result.outcomes:
        return Recovered()
    before = plain.result.outcomes[0]
    paired = attacks.leaks.baseline == "control"
    known = attacks.run_of(NONE, "control") if paired else None
    plain_control = _shown(known.result.outcomes if known else (), len(items))
    plain_shown = _shown([before], len(items))
    count, reverse = np.zeros((2, len(items)), bool)
    piles = []
    for part in _parts(attacks, ("unlearned", "control") if paired else ("unlearned",)):
        mine, control = _shown(part.outcomes, len(items)), _shown(part.control, len(items))
        back = mine & ~control & ~plain_shown
        count |= back
        reverse |= control & ~mine & ~plain_control
        piles.append([_example(part, items[i], before, i) for i in map(int, np.flatnonzero(back))])
    return Recovered(
        list(_in_turn(piles))[:limit], int(count.sum()), int(reverse.sum()) if paired else None, len(items)
    )


def _parts(attacks: Attacks, roles: Sequence[AttackedRole]) -> list[_Part]:
    """Return the rows that count by the report's knowledge, the most leaking first, with what both models said."""
    rows = [row for row in attacks.leaks.rows if row.status == "ok" and row.counts and not row.measure]
    parts = {row.attack: _Part(row.attack, row.leak) for row in rows}
    for name in attacks.attacks:
        for role in roles:
            found = attacks.run_of(name, role)
            for outcome in found.result.outcomes if found else ():
                part = parts.get(f"{name}_{outcome.row}" if outcome.row else name)
                if part:
                    (part.outcomes if role == "unlearned" else part.control).append(outcome)
    return sorted(parts.values(), key=lambda part: -part.leak)


def _shown(outcomes: Sequence[Outcome], n: int) -> np.ndarray:
    """Which of n items any of the outcomes shows."""
    shown = np.zeros(n, bool)
    for outcome in outcomes:
        shown |= np.nan_to_num(outcome.known) >= RECOVERED
    return shown


def _example(part: _Part, asked: Asked, before: Outcome, i: int) -> Example:
    best = max(part.outcomes, key=lambda outcome: np.nan_to_num(outcome.known[i], nan=-np.inf))
    return Example(asked, _said(before, i), _said(best, i), part.name, best.variant)


def _said(outcome: Outcome, i: int) -> str:
    return (outcome.texts[i] if len(outcome.texts) else "") or f"(nothing; K = {outcome.known[i]:.2f})"


def _in_turn(piles: Sequence[Sequence[Example]]) -> Iterator[Example]:
    """One of each attack's in turn, each item once."""
    taken: set[int] = set()
    for _ in range(max(map(len, piles), default=0)):
        for pile in piles:
            left = [example for example in pile if example.asked.index not in taken]
            if left:
                taken.add(left[0].asked.index)
                yield left[0]
