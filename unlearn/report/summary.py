"""What a run says at its end: the headline numbers on the console. Numbers only, nothing of the forget set's text."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from unlearn.report.folder import Run, read_run
from unlearn.report.headline import headline, show, show_interval, undefined
from unlearn.report.leak_console import console, show_leaks
from unlearn.report.page import cost, localized

if TYPE_CHECKING:
    from pathlib import Path


def print_summary(folder: Path) -> None:
    """Print a finished run's headline table, its leaks, its cost and where its report is.

    Raises UserError like `read_run`.
    """
    run = read_run(folder)
    where = console()
    if run.results:
        where.print(summary(run))
    if run.attacks:
        show_leaks(run.attacks, where)
    if run.localization:
        where.print(Text(localized(run)))
    where.print(Text(cost(run), style="dim"))
    where.print(f"report: {run.folder / 'report.html'}", markup=False, soft_wrap=True)


def summary(run: Run) -> Table:
    """Headline metrics by model with 95% intervals, in groups."""
    title = f"{run.title}, seed {run.about.seed}"
    table = Table(title=Text(title, style="bold"), box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for model in run.models:
        table.add_column(model, justify="right", style="bold" if model == "unlearned" else "")
    table.add_column("n", justify="right", style="dim")
    table.add_column("", style="yellow")
    for group, lines in groupby(headline(run), key=lambda line: line.group):
        table.add_row(Text(group, style="bold cyan"))
        for line in lines:
            cells = []
            for model in run.models:
                result = line.results.get(model)
                cell = Text(show(result.value, line.scale) if result else "–")
                if result and (interval := show_interval(result, line.scale)):
                    cell.append(f" {interval}", style="not bold dim")
                cells.append(cell)
            table.add_row(f"  {line.title}", *cells, str(line.n), "over-unlearned" if line.over_unlearned else "")
        table.add_section()
    if left_out := undefined(run):
        reason = "" if run.about.has_control else " (there is no control model)"
        table.caption = f"undefined: {', '.join(left_out)}{reason}"
    return table
