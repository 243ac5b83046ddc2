"""The score stage: a model asked every probe once, and the metrics computed from the tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.data.task import Role, Task
from unlearn.runtime import distributed
from unlearn.runtime.progress import progress
from unlearn.runtime.store import MANIFEST, Built, Store, copy_stage, read_json, write_json
from unlearn.score.table import Scores
from unlearn.stages.experiment import Experiment
from unlearn.stages.keys import Asked, Key, component_key

if TYPE_CHECKING:
    import torch


def score_unlearned(
    experiment: Experiment, task: Task, references: Mapping[Role, Path], store: Store, device: torch.device
) -> list[Built]:
    """Score the unlearned model, and put the references' tables beside its own: the run folder then needs no cache."""
    unlearned = store.root / "unlearned"
    for role, tables in references.items():
        store.stage(f"scores/{role}", {"scores": tables.name}, partial(copy_stage, tables))
    key = score_key(experiment, task, {"unlearned": read_json(unlearned / MANIFEST)["key"]})
    title = "scoring the unlearned model"
    return [
        store.stage(
            "scores/unlearned", key, lambda folder: score_model(experiment, task, str(unlearned), title, device, folder)
        )
    ]


def score_key(experiment: Experiment, task: Task, model: Key) -> Key:
    """Return what decides a model's score tables."""
    return component_key(experiment.evaluate, task, Asked(model, experiment.model.prompt))


def score_model(experiment: Experiment, task: Task, path: str, title: str, device: torch.device, folder: Path) -> None:
    """Load a model and write its score tables. title: what is said meanwhile."""
    from unlearn.models.loading import load_model, load_tokenizer

    model: Any = load_model(path)
    score_loaded(experiment, task, model.to(device), load_tokenizer(path), title, folder)


def score_loaded(experiment: Experiment, task: Task, model: Any, tokenizer: Any, title: str, folder: Path) -> None:
    """Write a model's score tables."""
    seen = task.only(experiment.evaluate.reads)
    with progress(title, total=None) as advance:
        scores = experiment.evaluate.score(model, tokenizer, experiment.model.prompt, seen, advance)
    scores.save(folder)


def evaluate_metrics(experiment: Experiment, folder: Path) -> None:
    """Compute every metric of every scored model from its tables."""
    from unlearn.metrics.evaluate import evaluate, to_rows

    if not distributed.is_main():
        return
    tables = {
        role: Scores.load(folder / "scores" / role)
        for role in ("original", "control", "unlearned")
        if (folder / "scores" / role).is_dir()
    }
    with progress("computing metrics", total=len(tables)) as advance:
        rows = {}
        for role, scores in tables.items():
            rows[role] = to_rows(evaluate(experiment.metric, scores, tables.get("control")))
            advance(1)
    write_json(folder / "metrics.json", rows)
