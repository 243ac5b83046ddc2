"""The leak report as templates and trackers take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from unlearn.leak.leak_row import NONE, Row
from unlearn.leak.tables import leak_table
from unlearn.report.leak_words import (
    READING,
    TITLES,
    VERDICTS,
    able,
    chosen,
    cost,
    decimal,
    groups,
    interval,
    is_counted,
    scope,
    state,
    threat_level,
    verdict,
)
from unlearn.report.render import render

if TYPE_CHECKING:
    from unlearn.leak.record import AttackedRole
    from unlearn.leak.verdict import Worst
    from unlearn.report.attacks_folder import Attacks
    from unlearn.report.tracking import Tracker


def context(attacks: Attacks) -> dict[str, Any]:
    """Return what the templates need of the leak report."""
    overall, costs = attacks.leaks.overall, any(map(cost, attacks.leaks.rows))
    return {
        "verdict": overall.verdict,
        "line": verdict(attacks),
        "meaning": VERDICTS[overall.verdict],
        "scope": scope(attacks),
        "worst": [_worst(one) for one in attacks.leaks.worst],
        "costs": costs,
        "groups": [
            {
                "title": group.title,
                "words": group.words,
                "worst": _worst(group.worst) if group.worst else None,
                "rows": list(map(_cells, group.rows)),
            }
            for group in groups(attacks)
        ],
        "reading": [(name, words) for name, words in READING if costs or name != "half at"],
        "notes": attacks.leaks.notes,
        "numbers": _numbers(attacks),
    }


def _numbers(attacks: Attacks) -> list[tuple[str, str, list[str]]]:
    """Attack, name and value of what else the attacks measured: on each model, then what several gave together."""
    rows = []
    roles = _roles(attacks)
    for name in attacks.names:
        of_models = [found.result.numbers if (found := attacks.run_of(name, t)) else {} for t in roles]
        for key in dict.fromkeys(key for numbers in of_models for key in numbers):
            rows.append((name, key, [decimal(numbers.get(key, math.nan)) for numbers in of_models]))
        together = attacks.numbers.get(name, {})
        rows += [(name, key, ["", decimal(value), ""]) for key, value in together.items()]
    return [(name, key.replace("_", " "), values) for name, key, values in rows]


def _roles(attacks: Attacks) -> list[AttackedRole]:
    """Return the original, the unlearned model and the control."""
    return ["original", "unlearned", "placebo" if attacks.leaks.baseline == "placebo" else "control"]


def _worst(one: Worst) -> dict[str, str]:
    return {
        "title": TITLES[one.threat],
        "verdict": one.verdict,
        "leak": decimal(one.leak),
        "interval": interval(one),
        "chosen": chosen(one),
        "able": able(one),
    }


def _cells(row: Row) -> dict[str, Any]:
    made = row.status in ("ok", "uninformative")
    numbers = ("original", "unlearned", "control", "before", "gain", "excess", "leak", "on_attacker_items", "utility")
    held = [row.data, "the original model" if row.with_original else ""]
    held = [part for part in held if part] or ["no data" if made and row.attack != NONE else ""]
    spent = [*held, row.budget]
    return {
        "attack": row.attack,
        "family": row.family if row.attack != NONE else "",
        "threat": threat_level(row),
        "reference": row.reference,
        "made": made,
        "counts": row.attack == NONE or is_counted(row),
        "spent": ", ".join(part for part in spent if part),
        "interval": interval(row),
        "cost": cost(row),
        "state": state(row),
        "seconds": "–" if math.isnan(row.seconds) else f"{row.seconds:.1f}",
        "gflop": "–" if math.isnan(row.gflop) else f"{row.gflop:,.0f}",
        **{name: decimal(getattr(row, name)) for name in numbers},
    }


def write_leaks(attacks: Attacks) -> None:
    """Write leak.md, the report as a table, beside leak.json."""
    title = f"Leaks of {attacks.folder.resolve().parent.name}"
    render("leak.md.j2", attacks.folder / "leak.md", leaks=context(attacks), title=title, level=1)


def tracked(attacks: Attacks) -> dict[str, float | str]:
    """Return the leak report by key, with what else the attacks measured; what is undefined is left out.

    Keys are as `attack/NAME/leak`, `attack/worst/leak_low` and `attack/worst/black/leak`; of other measures
    `attack/NAME/KEY` where it is of several models together, `attack/NAME/unlearned/KEY` of one.
    """
    worst = attacks.leaks.overall
    values: dict[str, float] = {}
    for row in attacks.leaks.rows:
        parts = {"leak": row.leak, "excess": row.excess, "gain": row.gain, "A_u": row.unlearned}
        parts |= {"leak_low": row.low, "leak_high": row.high, "could_find": row.could_find}
        values |= {f"attack/{row.attack}/{name}": value for name, value in parts.items()}
    values |= {
        "attack/worst/leak": worst.leak,
        "attack/worst/leak_low": worst.low,
        "attack/worst/leak_high": worst.high,
    }
    for one in attacks.leaks.worst[:-1]:
        values[f"attack/worst/{one.threat}/leak"] = one.leak
    for attack in attacks.names:
        values |= {f"attack/{attack}/{name}": value for name, value in attacks.numbers.get(attack, {}).items()}
        for role in _roles(attacks):
            numbers = found.result.numbers if (found := attacks.run_of(attack, role)) else {}
            values |= {f"attack/{attack}/{role}/{name}": value for name, value in numbers.items()}
    return {"attack/verdict": worst.verdict, **{key: v for key, v in values.items() if math.isfinite(v)}}


def track_leaks(attacks: Attacks, tracker: Tracker) -> None:
    """Send the leak report to the tracker: the numbers by key, and the table as `attack/leaks`."""
    tracker.log_summary(tracked(attacks))
    rows = leak_table(attacks.leaks)
    tracker.log_table("attack/leaks", rows.assign(cost=[cost(row) for row in attacks.leaks.rows]))
