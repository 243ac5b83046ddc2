"""The score stage: every scorer asks a model once, and metrics are computed from the tables that this gives."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unlearn.models.subject import References, Subject
from unlearn.runtime import distributed
from unlearn.runtime.progress import progress
from unlearn.runtime.store import Built, Store, copy_stage, read_manifest, write_json
from unlearn.score.table import Tables, load_tables
from unlearn.stages.keys import Asked, Key, component_key
from unlearn.stages.subjects import load_subject

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from unlearn.data.task import Role, Task
    from unlearn.runtime.explained import Explained
    from unlearn.score.base import Scorer
    from unlearn.stages.experiment import Experiment

METRICS, READINGS = "metrics.json", "readings.json"


def score_unlearned(
    experiment: Experiment, task: Task, references: Mapping[Role, tuple[str, Path]], store: Store, device: torch.device
) -> list[Built]:
    """Score the unlearned model, and put the references' tables beside its own: the run folder then needs no cache.

    references: by role, where the model and its tables are.
    """
    unlearned = store.root / "unlearned"
    for role, (_, tables) in references.items():
        store.stage(f"scores/{role}", {"scores": tables.name}, partial(copy_stage, tables))
    beside = {"reference": references["original"][1].name, "control": None}
    if "control" in references:
        beside["control"] = references["control"][1].name
    key = score_key(experiment, task, {"unlearned": read_manifest(unlearned).key}, beside)

    def build(folder: Path) -> None:
        models = {role: partial(load_subject, experiment, path, role, device) for role, (path, _) in references.items()}
        subject = load_subject(experiment, str(unlearned), "unlearned", device)
        lent = References(models["original"], models.get("control", lambda: None))
        save(score(experiment.evaluate, subject, asked_of(experiment, task), lent, _title("unlearned")), folder)

    return [store.stage("scores/unlearned", key, build)]


def score_reference(
    experiment: Experiment, task: Task, path: str, role: Role, device: torch.device, folder: Path
) -> None:
    """Load the original or the control model and write its tables; beside it there is the model itself alone."""
    subject = load_subject(experiment, path, role, device)
    alone = References(lambda: subject, lambda: None)
    save(score(experiment.evaluate, subject, asked_of(experiment, task), alone, _title(role)), folder)


def score_loaded(experiment: Experiment, task: Task, model: Any, tokenizer: Any, title: str, folder: Path) -> None:
    """Write the tables of a model that is loaded, beside which there is no other."""
    subject = Subject("unlearned", model, tokenizer, experiment.model.prompt, experiment.token_budget)
    alone = References(lambda: subject, lambda: None)
    save(score(experiment.evaluate, subject, asked_of(experiment, task), alone, title), folder)


def score_key(experiment: Experiment, task: Task, model: Key, beside: Key | None = None) -> Key:
    """Return what decides a model's tables: the key of each scorer, by name.

    beside: what identifies the models beside it, "reference" and "control"; None: it is its own reference.
    """
    asked, about = asked_of(experiment, task), Asked(model, experiment.model.prompt)
    lent = beside or {"reference": model, "control": None}
    return {name: component_key(scorer, asked, about, offered=lent) for name, scorer in experiment.evaluate.items()}


def asked_of(experiment: Experiment, task: Task) -> Task:
    """Return the task with as many probes of each set as are to be scored."""
    limit = experiment.probe_limit
    return replace(task, probes=tuple(replace(one, probes=one.probes[:limit]) for one in task.probes))


def score(
    scorers: Mapping[str, Scorer], subject: Subject, task: Task, references: References, title: str = ""
) -> dict[str, Explained]:
    """Return the tables that the scorers give of one model. title: of the progress bar; "": there is none."""
    found: dict[str, Explained] = {}
    with progress(title) if title else nullcontext() as advance:
        for scorer in scorers.values():
            found |= scorer.score(subject, task.only(scorer.reads), references.only(scorer.reads), advance)
    return found


def save(tables: Mapping[str, Explained], folder: Path) -> None:
    """Write tables by their names."""
    for name, table in tables.items():
        table.save(folder / f"{name}.parquet")


def evaluate_metrics(experiment: Experiment, folder: Path) -> None:
    """Compute every metric of every scored model from its tables, and keep how they are to be shown."""
    from unlearn.metrics.evaluate import evaluate, readings, to_rows

    if not distributed.is_main():
        return
    roles: tuple[Role, ...] = ("original", "control", "unlearned")
    there = [role for role in roles if (folder / "scores" / role).is_dir()]
    tables: dict[Role, Tables] = {role: load_tables(folder / "scores" / role) for role in there}
    references: dict[Role, Tables] = {role: found for role, found in tables.items() if role != "unlearned"}
    rows = {}
    with progress("computing metrics", total=len(tables)) as advance:
        for role, found in tables.items():
            rows[role] = to_rows(evaluate(experiment.metric, found, references))
            advance(1)
    write_json(folder / READINGS, readings(experiment.metric))
    write_json(folder / METRICS, rows)


def _title(role: Role) -> str:
    return f"scoring the {role} model"
