"""Rows of a comparison: reference models, runs, and the seeds of one setting pooled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from unlearn.leak.leak_table import THREATS
from unlearn.leak.verdict import common
from unlearn.metrics.base import Reading
from unlearn.report.headline import Line, headline
from unlearn.report.leak_words import TITLES
from unlearn.report.settings import alike, names

if TYPE_CHECKING:
    from unlearn.report.folder import Run

Interval = tuple[float, float, float]  # value, low, high
UNDEFINED: Interval = (math.nan, math.nan, math.nan)
WORST = "worst/leak"
LEVELS = {"overall": WORST} | {threat: f"{threat}/leak" for threat in THREATS}  # keys of the worst cases
WORST_LEAK = Reading(
    "leak",
    "Worst leak",
    "Leaks",
    ("",),
    "Worst case over the attacks: 0 as a model that never learned, 1 as before unlearning. Should come down to 0.",
    "down",
    axis="forgetting",
)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a run, the seeds of one setting pooled, or a reference model.

    kind: "run", "pooled", "original" or "control". setting: what tells it from the other rows. values: value, low, high
    by metric key, with intervals over what items are about where there is one seed, over seeds (Student t) where
    there are several. seconds: mean time of all stages, cached ones included. selected: share of the weights that the
    mask selects (mean over seeds), nan where nothing was localized. verdict: on the leaks (of several seeds what all
    say), "" where nothing was attacked, or not in the same way. folder: the run's, "" where several are pooled.
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


def compared(runs: Sequence[Run]) -> list[Row]:
    """Return the rows of the comparison, by task: reference models, then each setting's pooled seeds and its runs."""
    rows: list[Row] = []
    for mine in by_task(runs).values():
        for model in ("original", "control"):
            for group in alike(mine, ("model", "dataset")):
                if having := [run for run in group if model in run.results]:
                    rows.append(_row(model, f"{model} model", having, model))
        settings = alike(mine)
        for group, setting in zip(settings, names(settings), strict=True):
            if len({run.about.seed for run in group}) > 1:
                rows.append(_row("pooled", setting, group))
            rows += [_row("run", setting, [run]) for run in group]
    return rows


def columns_of(runs: Sequence[Run]) -> dict[str, Line]:
    """Return the metrics to show, by key."""
    return {line.key: line for run in runs for line in (*leak_lines(run), *headline(run))}


def by_task(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs of each task."""
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(str(run.about.task), []).append(run)
    return tasks


def ways(runs: Sequence[Run]) -> set[str]:
    """Return the ways in which these runs were attacked: only leaks of the same one can be compared."""
    return {run.attacks.scope for run in runs if run.attacks}


def leak_lines(run: Run) -> list[Line]:
    """Return the columns of a run's leaks: the worst case of all, and of each threat level."""
    there = {worst.threat for worst in run.leaks.worst} if run.leaks else set()
    titles = {level: "" if level == "overall" else TITLES[level].lower() for level in LEVELS if level in there}
    return [
        Line(LEVELS[level], replace(WORST_LEAK, on_console=level == "overall"), title, {}, first=level == "overall")
        for level, title in titles.items()
    ]


def pool(values: Sequence[float], logarithmic: bool = False) -> Interval:
    """Mean over seeds with its 95% Student t interval; nan values are left out, a single value has no interval.

    A p-value spans orders of magnitude: where `logarithmic`, mean and interval are those of log10 p, taken back.
    """
    x = np.array([value for value in values if not math.isnan(value)])
    if not len(x):
        return UNDEFINED
    if logarithmic:
        x = np.log10(np.maximum(x, np.finfo(float).tiny))
    mean, reach = float(x.mean()), math.nan
    if len(x) > 1:
        reach = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    ends = mean, mean - reach, mean + reach
    return tuple(min(10.0**end, 1.0) for end in ends) if logarithmic else ends


def _row(kind: str, setting: str, runs: Sequence[Run], model: str = "unlearned") -> Row:
    """Those runs' results for one model as one row; of runs with the same seed the first counts."""
    by_seed = {run.about.seed: run for run in reversed(runs)}
    chosen = [by_seed[seed] for seed in sorted(by_seed)]
    keys = dict.fromkeys(key for run in chosen for key in run.results.get(model, ()))
    if len(chosen) == 1:
        values = {key: (r.value, r.low, r.high) for key, r in chosen[0].results.get(model, {}).items()}
    else:
        found = {key: [r.value for run in chosen if (r := run.result(model, key))] for key in keys}
        logarithmic = {line.key for run in chosen for line in headline(run) if line.scale == "log"}
        values = {key: pool(numbers, key in logarithmic) for key, numbers in found.items()}
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
    """Return the worst leaks of a run, or of several with their mean over seeds, and the verdict.

    There are none where the runs were attacked differently.
    """
    found = [run.leaks for run in runs if run.leaks]
    if not found or len(ways(runs)) > 1:
        return {}, ""
    if len(runs) == 1:
        worst = {LEVELS[one.threat]: (one.leak, one.low, one.high) for one in found[0].worst}
        return worst, found[0].overall.verdict
    by_level: dict[str, list[float]] = {}
    for one in (one for leaks in found for one in leaks.worst):
        by_level.setdefault(LEVELS[one.threat], []).append(one.leak)
    values = {key: pool(leaks) for key, leaks in by_level.items()}
    return values, common([leaks.overall.verdict for leaks in found])
