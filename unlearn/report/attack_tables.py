"""The tables that attacks leave beside their answers: what is drawn of them, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.report import charts
from unlearn.report.chart_base import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unlearn.leak.record import AttackedRole
    from unlearn.report.attacks_folder import Attacks
    from unlearn.report.style import Drawn
    from unlearn.runtime.explained import Explained

ROLES: tuple[AttackedRole, ...] = ("original", "unlearned", "control", "placebo")
assert set(ROLES) == set(MODELS)


def figures(attacks: Attacks) -> dict[str, Drawn]:
    """Return the figures of these attacks' tables, by name, `attack-ATTACK-TABLE`."""
    drawn = {}
    for name in attacks.attacks:
        for table, of in tables(attacks, name).items():
            if figure := charts.drawn({str(role): one for role, one in of.items()}, table, name):
                drawn[f"attack-{name}-{table}"] = figure
    return drawn


def undrawn(attacks: Attacks) -> Iterator[tuple[str, AttackedRole, str, Explained]]:
    """Yield the tables that have rows but no chart: attack, model, name, table."""
    for name in attacks.attacks:
        for table, of in tables(attacks, name).items():
            for role, one in of.items():
                if len(one.frame) and not one.chart:
                    yield name, role, table, one


def tables(attacks: Attacks, name: str) -> dict[str, dict[AttackedRole, Explained]]:
    """Return the tables of one attack by name, and by the model that was attacked."""
    found: dict[str, dict[AttackedRole, Explained]] = {}
    for role in ROLES:
        if one := attacks.run_of(name, role):
            for table, explained in one.result.tables.items():
                found.setdefault(table, {})[role] = explained
    return found
