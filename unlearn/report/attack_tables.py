"""The tables that attacks leave beside their answers: what is drawn of them, and what is left."""

from __future__ import annotations

from collections.abc import Iterator

from unlearn.leak.record import Trial
from unlearn.report import charts
from unlearn.report.attacks_folder import Attacks
from unlearn.report.chart_base import MODELS
from unlearn.report.style import Drawn
from unlearn.runtime.explained import Explained

TRIALS: tuple[Trial, ...] = ("original", "unlearned", "control", "placebo")
assert set(TRIALS) == set(MODELS)


def figures(attacks: Attacks) -> dict[str, Drawn]:
    """Return the figures of these attacks' tables, by name, `attack-ATTACK-TABLE`."""
    drawn = {}
    for name in attacks.attacks:
        for table, of in tables(attacks, name).items():
            if figure := charts.drawn({str(trial): one for trial, one in of.items()}, table, name):
                drawn[f"attack-{name}-{table}"] = figure
    return drawn


def undrawn(attacks: Attacks) -> Iterator[tuple[str, Trial, str, Explained]]:
    """Yield the tables that have rows but no chart: attack, model, name, table."""
    for name in attacks.attacks:
        for table, of in tables(attacks, name).items():
            for trial, one in of.items():
                if len(one.frame) and not one.chart:
                    yield name, trial, table, one


def tables(attacks: Attacks, name: str) -> dict[str, dict[Trial, Explained]]:
    """Return the tables of one attack by name, and by the model that was attacked."""
    found: dict[str, dict[Trial, Explained]] = {}
    for trial in TRIALS:
        if one := attacks.found(name, trial):
            for table, explained in one.attacked.tables.items():
                found.setdefault(table, {})[trial] = explained
    return found
