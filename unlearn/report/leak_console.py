"""The leak report on a console: the table, the verdict and its scope."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlearn.leak.leak_row import NONE, Row
from unlearn.report.attacks_folder import ATTACKS, Attacks, read_attacks
from unlearn.report.leak import write_leaks
from unlearn.report.leak_words import decimal, groups, interval, is_counted, scope, state, threat_level, verdict

if TYPE_CHECKING:
    from unlearn.leak.verdict import Worst

STYLES = {"leaks": "bold red", "small leak": "red", "no leak found": "bold green", "inconclusive": "bold yellow"}


def print_leaks(folder: Path) -> None:
    """Print the leak table and the verdict of a run folder, and write leak.md, where no report is asked for.

    UserError where the folder has no leak report, or a damaged one.
    """
    attacks = read_attacks(Path(folder) / ATTACKS)
    write_leaks(attacks)
    show_leaks(attacks, console())
    print(f"leaks: {attacks.folder / 'leak.md'}")


def console() -> Console:
    """Where results are printed; into a file or a pipe, wide enough for a table."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, 120)
    return made


def show_leaks(attacks: Attacks, where: Console) -> None:
    """Print the table, and the verdict with its scope."""
    where.print(table(attacks))
    where.print(Text(verdict(attacks), style=STYLES[attacks.leaks.overall.verdict]), soft_wrap=True)
    if words := scope(attacks):
        where.print(Text(f"scope: {words}", style="dim"), soft_wrap=True)


def table(attacks: Attacks) -> Table:
    """Return the leak report for a console: a row per attack, then the worst case of each threat level."""
    made = Table(title=Text("Leaks", style="bold"), box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("attack", no_wrap=True)
    made.add_column("threat")
    for head in ("original", "unlearned", "control", "leak"):
        made.add_column(head, justify="right", style="bold" if head == "leak" else "", no_wrap=True)
    made.add_column("")
    for group in groups(attacks):
        for row in group.rows:
            numbers = [decimal(value) for value in (row.original, row.unlearned, row.control)]
            said = shorten(state(row), 60, placeholder=" ...")
            style = "" if is_counted(row) or row.attack == NONE else "dim"
            made.add_row(
                Text(row.attack), threat_level(row), *numbers, _leak(row), Text(said, style="dim"), style=style
            )
    made.add_section()
    for one in attacks.leaks.worst:
        name, level = ("worst case of all", "") if one.threat == "overall" else ("worst case", one.threat)
        made.add_row(Text(name, style="bold"), level, "", "", "", _leak(one), Text(one.verdict, STYLES[one.verdict]))
    return made


def _leak(one: Row | Worst) -> Text:
    return Text(decimal(one.leak)).append(f" {interval(one)}", style="not bold dim")
