"""Runs side by side: one table, seeds pooled, and who is on the Pareto front of forgetting and utility."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import stats

from unlearn.leak.leak_table import THREATS
from unlearn.leak.leak_table import verdict as verdict_on
from unlearn.report.figures import Point, pareto
from unlearn.report.folder import Run, read_run
from unlearn.report.headline import Line, headline, show
from unlearn.report.leak import TITLES
from unlearn.report.overlap import overlap, overlaps
from unlearn.report.render import embed, render
from unlearn.report.style import Drawn
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify
from unlearn.runtime.store import write_file

Interval = tuple[float, float, float]  # value, low, high
UNDEFINED: Interval = (math.nan, math.nan, math.nan)
WORST = "worst/leak"
LEVELS = {"overall": WORST} | {threat: f"{threat}/leak" for threat in THREATS}  # keys of the worst cases
LEAK = "Worst case over the attacks: 0 as a model that never learned, 1 as before unlearning. Should come down to 0."
FORGETTING = ("forget_quality", "forget/probability", WORST)
UTILITY = ("model_utility", "retain/probability")
PARETO = "Whoever is up and to the right of another is better on both. The dashed line joins those that no other beats."
OVERLAPS = (
    "Weights that both masks select, of those that either does (intersection over union). In brackets: what two random "
    "masks of the same sizes would share; only what is above that is agreement."
)
DIFFERENT = "The runs were attacked in different ways (see leak.json): their leaks cannot be compared, nor pooled."
CONSOLE = (  # what fits on a console; the files have all headline metrics
    WORST,
    "forget_quality",
    "forget/probability",
    "forget/rouge",
    "model_utility",
    "retain/probability",
    "forget/extraction_strength",
    "forget/mia_min_k",
    "forget/privleak",
)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a run, the seeds of one setting pooled, or a reference model.

    kind: "run", "pooled", "original" or "control". setting: what tells it from the other rows. values: value, low, high
    by metric key; intervals are over items (bootstrap) where there is one seed, over seeds (Student t) where there are
    several. seconds: mean time of all stages, cached ones included. selected: share of the weights that the mask
    selects (mean over seeds), nan where nothing was localized. verdict: on the worst leak, "" where nothing was
    attacked, or not in the same way. folder: the run's, "" where several are pooled.
    """

    kind: str
    setting: str
    task: str
    seeds: tuple[int, ...]
    values: Mapping[str, Interval]
    seconds: float
    selected: float = math.nan
    verdict: str = ""
    folder: str = ""


def compare(folders: Sequence[Path], out: Path) -> None:
    """Print a table of the runs, and write compare.html, compare.md, compare.csv and the figures into `out`.

    Runs that differ only in their seeds get a pooled row. Folders that are no finished runs are left out, saying so, so
    that `outputs/*/` will do; UserError where none is left, or where a folder does not exist.
    """
    runs = finished(folders)
    rows = compared([run for run in runs if run.results or run.leaks])
    masks = overlaps(runs, _localizers(runs))
    lines = _lines(runs)
    csv = _frame(rows, list(lines)).to_csv(index=False)
    write_file(out / "compare.csv", lambda path: path.write_text(csv, encoding="utf-8"))
    notes = [DIFFERENT] if any(len(_ways(group)) > 1 for group in _by_task(runs).values()) else []
    figures = [embed(out, f"pareto-{i}", drawn) for i, drawn in enumerate(_figures(rows, comparable=not notes), 1)]
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
    console.print(table(rows, console.width))
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
    return _frame(compared([run for run in runs if run.results or run.leaks]), list(_lines(runs)))


def compared(runs: Sequence[Run]) -> list[Row]:
    """The rows of the comparison. By task: the reference models, then each setting's pooled seeds and its runs."""
    rows: list[Row] = []
    for mine in _by_task(runs).values():
        for model in ("original", "control"):
            for group in _alike(mine, ("model", "dataset")):
                if having := [run for run in group if model in run.results]:
                    rows.append(_row(model, f"{model} model", having, model))
        settings = _alike(mine)
        for group, setting in zip(settings, _names(settings), strict=True):
            if len({run.about.seed for run in group}) > 1:
                rows.append(_row("pooled", setting, group))
            rows += [_row("run", setting, [run]) for run in group]
    return rows


def _lines(runs: Sequence[Run]) -> dict[str, Line]:
    """The metrics to show, by key."""
    return {line.key: line for run in runs for line in (*_leak_lines(run), *headline(run))}


def _by_task(runs: Sequence[Run]) -> dict[str, list[Run]]:
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(str(run.about.task), []).append(run)
    return tasks


def _ways(runs: Sequence[Run]) -> set[str]:
    """The ways in which these runs were attacked: only leaks of the same one can be compared."""
    return {run.attacks.scope for run in runs if run.attacks}


def _leak_lines(run: Run) -> list[Line]:
    """The columns of a run's leaks: the worst case of all, and of each threat level."""
    there = {worst.threat for worst in run.leaks.worst} if run.leaks else set()
    titles = {level: "" if level == "overall" else TITLES[level].lower() for level in LEVELS if level in there}
    return [Line(LEVELS[level], "Worst leak", title, "Leaks", LEAK, {}) for level, title in titles.items()]


def pool(values: Sequence[float], key: str = "") -> Interval:
    """Mean over seeds with its 95% Student t interval; nan values are left out, a single value has no interval.

    Forget quality is a p-value that spans orders of magnitude: its mean and interval are those of log10 p, taken back.
    """
    x = np.array([value for value in values if not math.isnan(value)])
    if not len(x):
        return UNDEFINED
    logarithmic = key == "forget_quality"
    if logarithmic:
        x = np.log10(np.maximum(x, np.finfo(float).tiny))
    mean, reach = float(x.mean()), math.nan
    if len(x) > 1:
        reach = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    ends = mean, mean - reach, mean + reach
    return tuple(min(10.0**end, 1.0) for end in ends) if logarithmic else ends


def table(rows: Sequence[Row], width: int) -> Table:
    """The comparison for a console: as many metrics as fit `width` characters, intervals where seeds are pooled."""
    columns = {"setting": [row.setting for row in rows], "task": [row.task for row in rows]}
    columns["seed"] = [", ".join(map(str, row.seeds)) for row in rows]
    title = None
    if len(set(columns["task"])) == 1:
        title = Text(columns.pop("task")[0])
    for key in CONSOLE:
        if any(key in row.values for row in rows):
            columns[key.replace("/", "\n").replace("_", " ")] = [_cell(row, key) for row in rows]
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


def _cell(row: Row, key: str) -> str:
    value, low, high = row.values.get(key, UNDEFINED)
    lines = [show(value, key)]
    if not math.isnan(low + high) and (len(row.seeds) > 1 or key == WORST):
        lines.append(f"{show(low, key)} to {show(high, key)}")
    if row.verdict and key == WORST:
        lines.append(row.verdict)
    return "\n".join(lines)


def _row(kind: str, setting: str, runs: Sequence[Run], model: str = "unlearned") -> Row:
    """Those runs' results for one model as one row; of runs with the same seed the first counts."""
    by_seed = {run.about.seed: run for run in reversed(runs)}
    chosen = [by_seed[seed] for seed in sorted(by_seed)]
    keys = dict.fromkeys(key for run in chosen for key in run.results.get(model, ()))
    if len(chosen) == 1:
        values = {key: (r.value, r.low, r.high) for key, r in chosen[0].results.get(model, {}).items()}
    else:
        found = {key: [r.value for run in chosen if (r := run.result(model, key))] for key in keys}
        values = {key: pool(numbers, key) for key, numbers in found.items()}
    leaks, verdict = _leaks(chosen) if model == "unlearned" else ({}, "")
    seconds = float(np.mean([sum(stage.seconds for stage in run.about.stages) for run in chosen]))
    shares = [run.localization.fraction for run in chosen if run.localization]
    return Row(
        kind=kind,
        setting=setting,
        task=str(chosen[0].about.task),
        seeds=tuple(sorted(by_seed)),
        values=values | leaks,
        seconds=seconds if model == "unlearned" else math.nan,
        selected=float(np.mean(shares)) if model == "unlearned" and shares else math.nan,
        verdict=verdict,
        folder=str(chosen[0].folder) if len(chosen) == 1 and model == "unlearned" else "",
    )


def _leaks(runs: Sequence[Run]) -> tuple[dict[str, Interval], str]:
    """The worst leaks of a run, or of several with their mean over seeds, and the verdict; none where they were
    attacked differently."""
    found = [run.leaks for run in runs if run.leaks]
    if not found or len(_ways(runs)) > 1:
        return {}, ""
    if len(runs) == 1:
        worst = {LEVELS[one.threat]: (one.leak, one.low, one.high) for one in found[0].worst}
        return worst, found[0].overall.verdict
    by_level: dict[str, list[float]] = {}
    for one in (one for leaks in found for one in leaks.worst):
        by_level.setdefault(LEVELS[one.threat], []).append(one.leak)
    values = {key: pool(leaks) for key, leaks in by_level.items()}
    return values, verdict_on(*values[WORST][1:])


def _alike(runs: Sequence[Run], groups: Sequence[str] = ()) -> list[list[Run]]:
    """The runs in lists of those whose configurations agree in all but the seed (in those config groups, if named)."""
    lists: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for run in runs:
        flat = _flat(run)
        kept = {key: value for key, value in flat.items() if not groups or key.partition(".")[0] in groups}
        lists.setdefault(tuple(sorted(kept.items())), []).append(run)
    return list(lists.values())


def _flat(run: Run) -> dict[str, str]:
    """The configuration of what was computed, by dotted key: without the tracker and the run's seed."""
    flat: dict[str, str] = {}

    def visit(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                visit(f"{key}.{name}".lstrip("."), inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                visit(f"{key}.{i}", inner)
        elif not (key.rpartition(".")[2] == "seed" and value == run.about.seed):
            flat[key] = str(value)

    visit("", {name: node for name, node in run.config.items() if name != "tracker"})
    if not run.results:  # the attack of some model: the configuration does not say which
        flat["folder"] = run.about.name
    return flat


def _names(settings: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each setting: its method, and the values in which it differs from others of the same components."""
    flats = []
    for run, *_ in settings:  # components go by their chosen names: several may share a class
        chosen = {f"{group}._target_": name for group, name in run.about.choices.items()}
        flats.append({key: chosen.get(key, value) for key, value in _flat(run).items()})
    names = []
    for group, flat in zip(settings, flats, strict=True):
        parts = [group[0].method if group[0].results else "attack"]
        for key, value in flat.items():
            component = key.rpartition(".")[0] + "._target_"
            peers = flats if key == component else [f for f in flats if f.get(component) == flat.get(component)]
            if key != "method._target_" and len({f.get(key) for f in peers}) > 1:
                name = key.removesuffix("._target_")
                shown = group[0].about.choices.get(name) or value.rpartition(".")[2] if key == component else value
                parts.append(f"{name.removeprefix('method.')}={shown}")
        names.append(" ".join(parts))
    return names


def _localizers(runs: Sequence[Run]) -> list[str]:
    """How each run localized: the localizer, and the values in which it differs from the same one in other runs."""
    flats = [{k: v for k, v in _flat(run).items() if k.startswith("localize.")} for run in runs]
    names = []
    for run, flat in zip(runs, flats, strict=True):
        peers = [other for peer, other in zip(runs, flats, strict=True) if peer.localizer == run.localizer]
        told = [key for key in flat if len({other.get(key) for other in peers}) > 1]
        names.append(" ".join([run.localizer, *(f"{key.removeprefix('localize.')}={flat[key]}" for key in told)]))
    return names


def _figures(rows: Sequence[Row], comparable: bool) -> list[Drawn]:
    """By task, the Pareto plots whose two metrics are there; that of the leaks where they are comparable."""
    made = []
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        pooled = {row.setting for row in mine if row.kind == "pooled"}
        shown = [row for row in mine if not (row.kind == "run" and row.setting in pooled)]
        utility = next((key for key in UTILITY if _has(shown, key)), None)
        for forgetting in FORGETTING:
            if utility and _has(shown, forgetting) and (comparable or forgetting != WORST):
                points = [
                    Point(row.kind, _label(row), row.values[utility], row.values[forgetting])
                    for row in shown
                    if {utility, forgetting} <= row.values.keys()
                ]
                made.append(Drawn(f"Pareto plot, {task}", PARETO, pareto(points, forgetting, utility, title=task)))
    return made


def _label(row: Row) -> str:
    return f"{row.setting} ({len(row.seeds)} seeds)" if row.kind == "pooled" else row.setting


def _has(rows: Sequence[Row], key: str) -> bool:
    """Whether an unlearned model has a defined value of that metric."""
    return any(row.kind in ("run", "pooled") and not math.isnan(row.values.get(key, UNDEFINED)[0]) for row in rows)


def _frame(rows: Sequence[Row], keys: Sequence[str]) -> pd.DataFrame:
    """The rows as a table with columns KEY, KEY_low and KEY_high for each metric."""
    records = []
    for row in rows:
        record: dict[str, Any] = {"kind": row.kind, "setting": row.setting, "task": row.task}
        record |= {"seeds": " ".join(map(str, row.seeds)), "seconds": row.seconds, "selected": row.selected}
        record |= {"verdict": row.verdict, "folder": row.folder}
        for key in keys:
            record |= dict(zip((key, f"{key}_low", f"{key}_high"), row.values.get(key, UNDEFINED), strict=True))
        records.append(record)
    return pd.DataFrame(records)
