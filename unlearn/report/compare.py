"""Runs side by side: one table, seeds pooled, and who is on the Pareto front of forgetting and utility."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlearn.report.compare_figures import attacked, fronts
from unlearn.report.compared import UNDEFINED, WORST, Row, by_task, columns_of, compared, ways
from unlearn.report.folder import Run, read_run
from unlearn.report.headline import Line, show
from unlearn.report.overlap import overlap, overlaps
from unlearn.report.render import embed, render
from unlearn.report.settings import alike, localizers, names
from unlearn.report.style import Drawn
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify
from unlearn.runtime.store import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

OVERLAPS = (
    "Weights that both masks select, of those that either does (intersection over union). In brackets: what two random "
    "masks of the same sizes would share; only what is above that is agreement."
)
DIFFERENT = "The runs were attacked in different ways (see leak.json): their leaks cannot be compared, nor pooled."


def compare(folders: Sequence[Path], out: Path) -> None:
    """Print a table of the runs, and write compare.html, compare.md, compare.csv and the figures into `out`.

    Runs that differ only in their seeds get a pooled row. Folders that are no finished runs are left out, saying so, so
    that `outputs/*/` will do; UserError where none is left, or where a folder does not exist.
    """
    runs = finished(folders)
    rows = compared([run for run in runs if run.results or run.leaks])
    masks = overlaps(runs, localizers(runs))
    lines = columns_of(runs)
    csv = _frame(rows, list(lines)).to_csv(index=False)
    write_file(out / "compare.csv", lambda path: path.write_text(csv, encoding="utf-8"))
    notes = [DIFFERENT] if any(len(ways(group)) > 1 for group in by_task(runs).values()) else []
    drawn = {f"pareto-{i}": front for i, front in enumerate(fronts(rows, list(lines.values()), not notes), 1)}
    drawn |= attacked(runs, _labels(runs))
    figures = [embed(out, name, figure) for name, figure in drawn.items()]
    if masks.any:
        figures.append(embed(out, "overlaps", Drawn("Overlaps between masks", OVERLAPS, overlap(masks))))
    context = {
        "title": f"{len(runs)} run{'s' if len(runs) > 1 else ''} compared",
        "lines": list(lines.values()),
        "rows": rows,
        "undefined": UNDEFINED,
        "figures": figures,
        "localized": any(run.localization for run in runs),
        "attacked": any(row.verdict for row in rows),
        "notes": notes,
        "masks": masks.rows() if masks.any else [],
    }
    for template in ("compare.md.j2", "compare.html.j2"):
        render(template, out / template.removesuffix(".j2"), **context)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(table(rows, list(lines.values()), console.width))
    for note in notes:
        console.print(Text(note, style="yellow"))
    console.print(f"comparison: {out / 'compare.html'}", markup=False, soft_wrap=True)


def finished(folders: Sequence[Path]) -> list[Run]:
    """Return the finished runs among the folders, each once; the others are left out, saying so.

    UserError where none is left, or where a folder does not exist.
    """
    runs, left_out = [], []
    for folder in dict.fromkeys(map(Path, folders)):
        try:
            runs.append(read_run(folder))
        except UserError as error:
            if not folder.exists():
                raise
            left_out.append(error)
    if not runs:
        raise left_out[0] if left_out else UserError("nothing to compare: name at least one run folder")
    for reason in left_out:
        notify(f"left out: {reason}")
    return runs


def comparison(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the table of compare.csv: columns KEY, KEY_low and KEY_high for each metric."""
    return _frame(compared([run for run in runs if run.results or run.leaks]), list(columns_of(runs)))


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return what each run is called: its setting, with its seed where several have it."""
    groups = alike(runs)
    named = {id(run): name for group, name in zip(groups, names(groups), strict=True) for run in group}
    several = {id(run) for group in groups if len(group) > 1 for run in group}
    return [f"{named[id(run)]}, seed {run.about.seed}" if id(run) in several else named[id(run)] for run in runs]


def table(rows: Sequence[Row], lines: Sequence[Line], width: int) -> Table:
    """Return the comparison for a console: as many metrics as fit `width` characters, intervals of pooled seeds."""
    columns = {"setting": [row.setting for row in rows], "task": [row.task for row in rows]}
    columns["seed"] = [", ".join(map(str, row.seeds)) for row in rows]
    title = None
    if len(set(columns["task"])) == 1:
        title = Text(columns.pop("task")[0])
    for line in lines:
        if line.reading.on_console and line.first:
            columns[line.key.replace("/", "\n").replace("_", " ")] = [_cell(row, line) for row in rows]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title)
    shown: list[list[str]] = []
    for head, cells in columns.items():
        width -= 3 + max(len(line) for text in (head, *cells) for line in text.splitlines())
        if width >= 0 or len(shown) < 3:
            shown.append(cells)
            made.add_column(head, justify="left" if head in ("setting", "task", "seed") else "right", vertical="top")
    for row, *texts in zip(rows, *shown, strict=True):
        made.add_row(*map(Text, texts), style={"pooled": "bold", "original": "dim", "control": "dim"}.get(row.kind, ""))
    return made


def _cell(row: Row, line: Line) -> str:
    value, low, high = row.values.get(line.key, UNDEFINED)
    parts = [show(value, line.scale)]
    if not math.isnan(low + high) and (len(row.seeds) > 1 or line.key == WORST):
        parts.append(f"{show(low, line.scale)} to {show(high, line.scale)}")
    if row.verdict and line.key == WORST:
        parts.append(row.verdict)
    return "\n".join(parts)


def _frame(rows: Sequence[Row], keys: Sequence[str]) -> pd.DataFrame:
    """Return the rows as a table with columns KEY, KEY_low and KEY_high for each metric."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"kind": row.kind, "setting": row.setting, "task": row.task}
        record |= {"seeds": " ".join(map(str, row.seeds)), "seconds": row.seconds, "selected": row.selected}
        record |= {"verdict": row.verdict, "folder": row.folder}
        for key in keys:
            record |= dict(zip((key, f"{key}_low", f"{key}_high"), row.values.get(key, UNDEFINED), strict=True))
        records.append(record)
    return pd.DataFrame(records)
