"""One run's report: `report.html`, which needs nothing beside it, and `report.md` with the figures as files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from unlearn.report import leak_figures
from unlearn.report.attack_tables import undrawn
from unlearn.report.figures import figures
from unlearn.report.folder import Run, class_name, read_run
from unlearn.report.headline import GROUPS, Line, headline, show, show_interval, undefined
from unlearn.report.leak import context as leak_context
from unlearn.report.leak import track_leaks, write_leaks
from unlearn.report.recovered import recovered
from unlearn.report.render import embed, render
from unlearn.report.style import percent

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.metrics.base import Result
    from unlearn.report.attacks_folder import Attacks
    from unlearn.report.tracking import Tracker

WHO = {"original": "before (original)", "unlearned": "after (unlearned)", "control": "control model"}
EXAMPLES = {"forget": 4, "retain": 2}  # how many, by aim
SETTING = {  # keys of the configuration, and under which name their choice is kept
    "model": "model",
    "finetune_update": "update@finetune_update",
    "localize": "localize",
    "method": "method",
    "train": "train",
    "update": "update",
    "lora": "lora",
}
WHOLE = ("localize", "update", "finetune_update")  # shown with the components in them
ROWS = 20  # of a table that is shown as it is


def write_report(folder: Path, tracker: Tracker | None = None) -> Path:
    """Write report.html, report.md and figures/ into a finished run folder; the path of report.html.

    Where there were attacks, leak.md goes into their folder, too. All of it is sent to `tracker`, where one is given.
    Raises UserError where the folder is not a finished run or a file in it is damaged.
    """
    run = read_run(folder)
    drawn = figures(run)
    leaking = leak_figures.figures(run.attacks) if run.attacks else {}
    context = _context(run) | {
        "figures": [embed(run.folder, name, figure) for name, figure in drawn.items()],
        "leak_figures": [embed(run.folder, name, figure) for name, figure in leaking.items()],
    }
    render("report.md.j2", run.folder / "report.md", **context)
    render("report.html.j2", run.folder / "report.html", **context)
    if run.attacks:
        write_leaks(run.attacks)
    if tracker:
        if run.results:
            tracker.log_results({model: run.results[model].values() for model in run.models})
        if run.attacks:
            track_leaks(run.attacks, tracker)
        tracker.log_figures({name: figure.figure for name, figure in (leaking | drawn).items()})
    return run.folder / "report.html"


def cost(run: Run) -> str:
    """Time and memory in one sentence, with what caching saved."""
    saved = sum(stage.seconds for stage in run.about.stages if stage.cached)
    mine = [stage for stage in run.about.stages if not stage.cached]
    if not mine:
        return f"All stages were there from earlier runs ({saved:.1f} s when they were made)."
    peak = max((stage.peak_rss_mb for stage in mine), default=0.0)
    spent = f"{sum(stage.seconds for stage in mine):.1f} s in all, at most {peak:.0f} MB of memory"
    return f"{spent}; {saved:.1f} s saved by cached stages." if saved else f"{spent}."


def localized(run: Run) -> str:
    """Who localized, and how much, in one line; "" where there is no localization."""
    if not (found := run.localization):
        return ""
    return f"Localized by {run.localizer}: {percent(found.fraction, 1)} of {found.total:,} weights may change"


def _context(run: Run) -> dict[str, Any]:
    groups = [
        (group, GROUPS.get(group, ""), [_line(run, line) for line in lines])
        for group, lines in groupby(headline(run), key=lambda line: line.group)
    ]
    return {
        "title": run.title,
        "about": run.about,
        "notes": run.about.notes,
        "setting": _setting(run),
        "models": run.models,
        "groups": groups,
        "leaks": leak_context(run.attacks) if run.attacks else None,
        "leak_tables": _tables(run.attacks) if run.attacks else [],
        "recovered": recovered(run.attacks) if run.attacks else None,
        "localized": localized(run),
        "numbers": _numbers(run),
        "undefined": undefined(run),
        "examples": examples(run),
        "everything": [_row(model, result) for model in run.models for result in run.results[model].values()],
        "cost": cost(run),
        "config": OmegaConf.to_yaml(OmegaConf.create(run.config)).rstrip(),
    }


def _setting(run: Run) -> list[tuple[str, str]]:
    rows = [("task", str(run.about.task))]
    for group, chosen in SETTING.items():
        if isinstance(node := run.config.get(group), Mapping):
            name = run.about.choices.get(chosen) or class_name(node)
            rows.append((group.replace("_", " "), _component(node, name, whole=group in WHOLE)))
            if group == "localize" and run.localization:
                rows.append(("selected", f"{percent(run.localization.fraction, 1)} of the weights"))
    rows += [(f"{part} model", path) for part, path in (run.attacks.models if run.attacks else {}).items()]
    if run.about.n_parameters is not None:
        rows.append(("parameters", f"{run.about.n_parameters:,}"))
    return [*rows, ("seed", str(run.about.seed)), ("device", run.about.device)]


def _component(node: Mapping[str, Any], name: str, whole: bool) -> str:
    """Return a component's name with its fields ("npo: beta = 0.1"); with `whole`, also those of several values."""
    fields = []
    for key, value in node.items():
        several = isinstance(value, (Mapping, list))
        if key != "_target_" and value not in (None, []) and (whole or not several):
            parts = isinstance(value, Mapping)
            fields.append(f"{key} = {f'({_component(value, class_name(value), whole)})' if parts else value}")
    return f"{name}: {', '.join(fields)}" if fields else name


def _numbers(run: Run) -> list[tuple[str, str, str]]:
    """Return the localizer's numbers: name, value, and what it says."""
    if not (found := run.localization):
        return []
    return [
        (name.replace("_", " "), _number(value), found.words.get(name, "")) for name, value in found.numbers.items()
    ]


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"


def _tables(attacks: Attacks) -> list[dict[str, Any]]:
    """Return the beginnings of the tables that attacks left and no figure shows."""
    return [
        {
            "title": f"{rows.title or table} of {attack}, {role} model",
            "words": rows.words,
            "file": (attacks.folder / attack / role / f"{table}.parquet").relative_to(attacks.folder.parent).as_posix(),
            "n": len(rows.frame),
            "columns": list(rows.frame),
            "rows": [[_cell(value) for value in row] for row in rows.frame.head(ROWS).itertuples(index=False)],
        }
        for attack, role, table, rows in undrawn(attacks)
    ]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}"
    return shorten(str(value), 80, placeholder=" ...")


def _line(run: Run, line: Line) -> dict[str, Any]:
    cells = []
    for model in run.models:
        result = line.results.get(model)
        cells.append(
            {
                "model": model,
                "value": show(result.value, line.scale) if result else "–",
                "interval": show_interval(result, line.scale) if result else "",
                "over": model == "unlearned" and line.over_unlearned,
                "note": result.note if result else "",
            }
        )
    return {"title": line.title, "metric": line.metric, "cells": cells, "n": line.n, "words": line.words}


def _row(model: str, result: Result) -> dict[str, Any]:
    names = ("name", "probe", "value", "low", "high", "n", "note")
    return {"model": model, **{name: getattr(result, name) for name in names}}


def examples(run: Run) -> list[dict[str, Any]]:
    """Return a few probes of the forget and retain sets, evenly spaced: question, true answer and each model's."""
    tables = {model: run.generations(model) for model in run.models}
    if not tables:
        return []
    asked = tables["unlearned"] if len(tables["unlearned"]) else tables["original"]
    said = {model: table.set_index(["probe", "item"])["generation"].to_dict() for model, table in tables.items()}
    chosen = []
    for aim, count in EXAMPLES.items():
        rows = asked[asked["aim"] == aim]
        step = max(1, len(rows) // count)
        for row in rows.iloc[::step].head(count).itertuples():
            answers = [(WHO[model], said[model].get((row.probe, row.item))) for model in run.models]
            texts = [("question", row.question), ("true answer", row.answer)]
            texts += [(who, text) for who, text in answers if text is not None]
            chosen.append({"probe": row.probe, "item": row.item, "texts": texts})
    return chosen
