"""The unlearning stage: from the original model to the unlearned one, by the run's method."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.data.task import Role, Task
from unlearn.report.tracking import Tracker
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify
from unlearn.runtime.store import Built, Store
from unlearn.stages.check import check_component
from unlearn.stages.experiment import Experiment
from unlearn.stages.keys import Asked, Key, component_key
from unlearn.stages.prepare import run_setting
from unlearn.stages.references import Reference

if TYPE_CHECKING:
    import torch

    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject
    from unlearn.stages.work import UnlearningWork

References = Mapping[Role, Reference]


def check_method(experiment: Experiment, task: Task) -> None:
    """Refuse what the method cannot work with (UserError), before anything is loaded."""
    method, setting = experiment.method, run_setting(experiment, task)
    for given, part, key in ((setting.masked, "mask", "localize"), (setting.lora, "lora", "lora")):
        if given and part not in method.reads:
            raise UserError(f"'method' ({type(method).__name__}) knows nothing of {key}=: choose {key}=none")
    check_component("method", method, task, setting)


def unlearn(
    experiment: Experiment,
    task: Task,
    known: References,
    mask: Mask | None,
    store: Store,
    device: torch.device,
    tracker: Tracker,
) -> Built:
    """Return the folder of the unlearned model, with the log of its training.

    known: the original model, and the control model where there is one. mask: which weights may change, None for all.
    """
    method, original = experiment.method, known["original"]

    def build(folder: Path) -> None:
        from unlearn.stages.work import UnlearningWork

        def evaluate(module: Any) -> dict[str, float]:
            return _curve_point(experiment, task, module, work.processor, known)

        work = UnlearningWork(experiment, known, mask, folder, device)
        work.watch_with(evaluate, tracker)
        result = method.unlearn(work.subject(), task.only(method.reads), work)
        if distributed.is_main():
            _save(result, work, original)

    return store.stage("unlearned", _key(experiment, task, original, mask), build, collective=True)


def _key(experiment: Experiment, task: Task, original: Reference, mask: Mask | None) -> Key:
    """Return what decides the result."""
    recipe = experiment.train
    offered = {
        "mask": mask and mask.digest,
        "recipe": recipe,
        "lora": experiment.lora,
        "update": experiment.update,
        "reference": original.key,
    }
    asked = Asked(original.key, experiment.model.prompt)
    key = component_key(experiment.method, task, asked, experiment.seed, offered)
    return {**key, "curve": [recipe.evaluate_at, recipe.evaluate_every]}


def _save(result: Subject, work: UnlearningWork, original: Reference) -> None:
    """Check that nothing changed but what may, and write the model folder."""
    from unlearn.models.layered import below
    from unlearn.models.loading import load_model, save_model
    from unlearn.training import checkpoint
    from unlearn.training.weights import check_unselected

    if work.allowed:
        before: Any = load_model(original.path)
        changed = check_unselected(work.allowed, before.to(next(result.module.parameters()).dtype), result.module)
        notify(f"{changed:.1%} of the weights that may change did, and no other")
    base = below(original.path) or original.path
    save_model(result.module, result.processor, work.folder, base, result.variant)
    checkpoint.discard(work.folder)
    for temporary in work.temporary:
        shutil.rmtree(temporary, ignore_errors=True)


def _curve_point(experiment: Experiment, task: Task, model: Any, tokenizer: Any, known: References) -> dict[str, float]:
    """Return the metrics that need no generated text, at one moment of the training."""
    from unlearn.metrics.evaluate import evaluate
    from unlearn.score.table import Scores

    scoring = dataclasses.replace(experiment.evaluate, generate=False, gradients=False)
    scores = scoring.score(model, tokenizer, experiment.model.prompt, task)
    control = Scores.load(known["control"].scores) if "control" in known else None
    results = evaluate(experiment.metric, scores, control)
    return {result.key: result.value for result in results if not math.isnan(result.value)}
