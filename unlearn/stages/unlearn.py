"""The unlearning stage: from the original model to the unlearned one, by the run's method.

Requests are unlearned in order, each from the result of the one before. What comes of the last is `unlearned`, as it is
of the only one; what comes of the n-th before it stays in `requests/N/unlearned`.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearn.data.task import Role, Task
from unlearn.runtime import distributed
from unlearn.runtime.progress import notify
from unlearn.runtime.store import Built, Store, key_hash
from unlearn.stages.check import check_component
from unlearn.stages.keys import Asked, Key, component_key
from unlearn.stages.prepare import run_setting
from unlearn.stages.references import Reference

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject
    from unlearn.report.tracking import Tracker
    from unlearn.stages.experiment import Experiment
    from unlearn.stages.work import UnlearningWork

References = Mapping[Role, Reference]
UNLEARNED = "unlearned"
"""The folder of the unlearned model."""
REQUESTS = "requests"
"""The folder of what came of all requests but the last."""


@dataclass(frozen=True)
class Wanted:
    """What is unlearned at once: a request, or all there is."""

    task: Task
    """The task as the request has it."""
    number: int = 0
    """Which request it is, from 1; 0: the task has none."""
    stage: str = UNLEARNED
    """The folder of the result."""

    @property
    def variant(self) -> str:
        """Return what the result is called (see Subject)."""
        return f"request-{self.number}" if self.number else ""


def in_order(task: Task) -> list[Wanted]:
    """Return what is unlearned, one after the other."""
    last = len(task.requests)
    stages = [f"{REQUESTS}/{number}/{UNLEARNED}" for number in range(1, last)]
    return [
        Wanted(task.at(request), number, stage)
        for number, (request, stage) in enumerate(zip(task.requests, [*stages, UNLEARNED], strict=False), 1)
    ] or [Wanted(task)]


def check_method(experiment: Experiment, task: Task) -> None:
    """Refuse what the method cannot work with (UserError), before anything is loaded."""
    method, setting = experiment.method, run_setting(experiment, task)
    for wanted in in_order(task):
        check_component("method", method, wanted.task, setting)


def unlearn(
    experiment: Experiment,
    task: Task,
    known: References,
    mask: Mask | None,
    store: Store,
    device: torch.device,
    tracker: Tracker,
) -> list[Built]:
    """Return the folders of what came of each request, the unlearned model last, with the logs of the trainings.

    known: the original model, and the control model where there is one. mask: which weights may change, None for all.
    """
    original = known["original"]

    def forget(wanted: Wanted, models: References) -> tuple[Built, Key]:
        def build(folder: Path) -> None:
            from unlearn.stages.work import UnlearningWork

            def evaluate(module: Any) -> dict[str, float]:
                return _curve_point(experiment, task, module, processor, known)

            work = UnlearningWork(experiment, models, mask, folder, device, wanted.number)
            work.watch_with(evaluate, tracker)
            subject, method = work.subject(), experiment.method
            processor = subject.processor
            result = method.unlearn(subject, wanted.task.only(method.reads), work)
            if distributed.is_main():
                _save(dataclasses.replace(result, variant=wanted.variant or result.variant), work, original)

        key = _key(experiment, wanted.task, models, mask)
        return store.stage(wanted.stage, key, build, collective=True), key

    made, given = [], original
    for wanted in in_order(task):
        built, key = forget(wanted, {**known, "original": given})
        made.append(built)
        given = Reference(str(built.folder), {"original": original.key, UNLEARNED: key_hash(key)})
    return made


def original_of(model: Key) -> Key:
    """Return the key of the original model, from the key of what the last request started from."""
    found: Key = model.get("original", model)
    return found


def _key(experiment: Experiment, task: Task, known: References, mask: Mask | None) -> Key:
    """Return what decides the result. known: the model that is given to the method as the original."""
    recipe, given = experiment.train, known["original"].key
    offered = {
        "mask": mask and mask.digest,
        "recipe": recipe,
        "lora": experiment.lora,
        "update": experiment.update,
        "reference": given,
        "control": known["control"].key if "control" in known else None,
    }
    asked = Asked(given, experiment.model.prompt)
    key = component_key(experiment.method, task, asked, experiment.seed, offered)
    return {**key, "curve": [recipe.evaluate_at, recipe.evaluate_every], "weights": recipe.weights}


def _save(result: Subject, work: UnlearningWork, original: Reference) -> None:
    """Check that nothing changed but what may, since the original, and write the model folder."""
    from unlearn.families.base import Loaded
    from unlearn.models.layered import below
    from unlearn.training import checkpoint
    from unlearn.training.weights import check_unselected

    if work.allowed:
        before: Any = work.family.load(original.path).module
        changed = check_unselected(work.allowed, before.to(next(result.module.parameters()).dtype), result.module)
        notify(f"{changed:.1%} of the weights that may change did, and no other")
    base = below(original.path) or original.path
    work.family.save(Loaded(result.module, result.processor), work.folder, base, result.variant)
    checkpoint.discard(work.folder)
    for temporary in work.temporary:
        shutil.rmtree(temporary, ignore_errors=True)


def _curve_point(experiment: Experiment, task: Task, model: Any, tokenizer: Any, known: References) -> dict[str, float]:
    """Return the metrics that need no generated text, at one moment of the training."""
    from unlearn.metrics.evaluate import evaluate
    from unlearn.models.subject import References as Beside
    from unlearn.models.subject import Subject
    from unlearn.score.table import load_tables
    from unlearn.stages.score import asked_of, score

    scorers = {name: scorer for name, scorer in experiment.evaluate.items() if scorer.along}
    subject = Subject("unlearned", model, tokenizer, experiment.model.prompt, experiment.token_budget)
    scored = score(scorers, subject, asked_of(experiment, task), Beside(lambda: subject, lambda: None))
    tables = {name: table.frame for name, table in scored.items()}
    references = {role: load_tables(reference.scores) for role, reference in known.items()}
    computed = {name: metric for name, metric in experiment.metric.items() if metric.reads <= set(tables)}
    results = evaluate(computed, tables, references)
    return {result.key: result.value for result in results if not math.isnan(result.value)}
