"""Original and control models: published checkpoints, or trained here once and kept for every later run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from unlearn import __version__
from unlearn.data.history import History
from unlearn.data.task import COMPLETION, Task, digest
from unlearn.models.base import Role, RunSetting
from unlearn.models.pretrained import local_state
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.store import Built, Store, read_json, write_json
from unlearn.score.table import Scores
from unlearn.stages.experiment import Experiment


@dataclass(frozen=True)
class Model:
    """A model to start from: where it is, what identifies it, and the stages that made it."""

    path: str
    key: dict[str, Any]
    stages: tuple[Built, ...] = ()


@dataclass(frozen=True)
class Reference(Model):
    """A model to compare with: also where its scores are."""

    scores: Path = Path()


def references(experiment: Experiment, task: Task, device: Any, threads: int) -> dict[Role, Reference]:
    """The original model and, unless switched off or impossible, the control model, both scored.

    Two small models that both have to be trained are trained at once, in two processes of one thread each: on two cores
    that takes half the time of one after the other with two threads.
    """
    parts: list[Role] = ["original", "control"] if has_control(experiment, task) else ["original"]
    to_train = [role for role in parts if not _is_there(experiment, task, role)]
    if "prepare" not in experiment.stages:
        require_trained(experiment, task)
    helper = None
    if len(to_train) == 2 and threads == 1 and device.type == "cpu" and distributed.world_size() == 1:
        helper = multiprocessing.get_context("spawn").Process(
            target=_in_helper, args=(experiment, task, device, threads), daemon=True
        )
        resource_tracker.ensure_running()  # else it is started with the helper, and unblocks the signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the helper inherits this: Ctrl-C ends us, and we it
        helper.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        found: dict[Role, Reference] = {"original": reference(experiment, task, "original", device)}
        if helper is not None:
            with progress("waiting for the control model", total=None):
                helper.join()
    finally:
        if helper is not None and helper.is_alive():
            helper.terminate()
            helper.join()
    if "control" in parts:  # where the helper failed, this does its work again and shows the error
        found["control"] = reference(experiment, task, "control", device)
    if helper is not None:  # what the helper built was built in this run
        built = tuple(replace(stage, cached=False) for stage in found["control"].stages)
        found["control"] = replace(found["control"], stages=built)
    return found


def reference(experiment: Experiment, task: Task, role: Role, device: Any) -> Reference:
    """One of the two models, trained and scored if need be."""
    model = trained(experiment, task, role, device)
    scored = cache(experiment).stage(
        f"scores-{role}",
        score_key(experiment, task, model.key),
        lambda folder: _score(experiment, task, role, model.path, device, folder),
    )
    return Reference(model.path, model.key, (*model.stages, scored), scored.folder)


def trained(experiment: Experiment, task: Task, role: Role, device: Any) -> Model:
    """One of the two models, not scored: the published one, or trained here."""
    if published := experiment.model.published(task, role):
        return Model(published, {"path": published, "files": local_state(published)})
    key = finetune_key(experiment, task, role)
    built = cache(experiment).stage(
        role, key, lambda folder: _finetune(experiment, task, role, device, folder), collective=True
    )
    return Model(str(built.folder), key, (built,))


def ask(experiment: Experiment, pairs: Sequence[tuple[str, str]], device: Any) -> list[float]:
    """How probable the model that the run starts from finds the first token of each answer after its prompt.

    pairs: (prompt, answer), bare completions. Kept in the cache. UserError where the model knows nothing yet.
    """
    path = experiment.model.source
    if path is None:
        raise UserError("the dataset wants the facts that the model knows before training: choose a pretrained model")

    def build(folder: Path) -> None:
        from unlearn.models.loading import load_model, load_tokenizer
        from unlearn.score.first_token import first_token_probabilities

        model: Any = load_model(path)
        tokenizer, budget = load_tokenizer(path), experiment.evaluate.token_budget
        with progress("asking what the model knows", total=None) as advance:
            found = first_token_probabilities(model.to(device), tokenizer, COMPLETION, pairs, budget, advance)
        write_json(folder / "known.json", found)

    key = {
        "model": {"path": path, "files": local_state(path)},
        "prompt": asdict(COMPLETION),
        "pairs": digest(list(pairs)),
        "versions": versions(),
    }
    built = cache(experiment).stage("known", key, build)
    return read_json(built.folder / "known.json")


def cache(experiment: Experiment) -> Store:
    """The stage cache that runs share."""
    return Store(local(experiment.cache), hashed=True, notify=notify)


def score_key(experiment: Experiment, task: Task, model: dict[str, Any]) -> dict[str, Any]:
    """What decides a model's score tables."""
    return {
        "model": model,
        "prompt": asdict(experiment.model.prompt),
        "scoring": experiment.evaluate.cache_key(),
        "probes": task.only({"probes"}).key(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions on which trained weights and scores depend."""
    from importlib.metadata import version

    return {"unlearn": __version__, "torch": version("torch"), "transformers": version("transformers")}


def has_control(experiment: Experiment, task: Task) -> bool:
    """Whether there is to be a control model: of what pretraining taught there can only be a published one."""
    if experiment.control_model == "none":
        return False
    family = experiment.model
    return history(experiment, task).control is not None or family.published(task, "control") is not None


def run_setting(experiment: Experiment, task: Task) -> RunSetting:
    """What the run is like, for components to refuse."""
    masked, lora = experiment.localizes, experiment.lora is not None
    return RunSetting(task.modality, experiment.model.source, has_control(experiment, task), masked, lora)


def history(experiment: Experiment, task: Task) -> History:
    """How original and control models are made: a pretrained model may know the task already."""
    return task.pretrained if task.pretrained and experiment.model.source else task.history


def _trained_on(experiment: Experiment, task: Task, role: Role) -> tuple[str, ...]:
    """The sets that the original or the control model is trained on."""
    of = history(experiment, task)
    training = of.original if role == "original" else of.control
    assert training is not None, "has_control sees to it"
    return training.sets


def require_trained(experiment: Experiment, task: Task) -> None:
    """UserError where a model that the experiment compares with would have to be trained first."""
    parts: list[Role] = ["original", "control"] if has_control(experiment, task) else ["original"]
    for role in parts:
        if not _is_there(experiment, task, role):
            raise UserError(f"there is no {role} model yet: add prepare to stages=")


def _is_there(experiment: Experiment, task: Task, role: Role) -> bool:
    """Whether the model is published, or was trained here."""
    if experiment.model.published(task, role):
        return True
    return cache(experiment).folder(role, finetune_key(experiment, task, role)).exists()


def finetune_key(experiment: Experiment, task: Task, role: Role) -> dict[str, Any]:
    """What decides an original or control model that is trained here."""
    return {
        "model": experiment.model.key(task),
        "prompt": asdict(experiment.model.prompt),
        "recipe": experiment.model.finetune.cache_key(),
        "data": digest([task.rows(name) for name in _trained_on(experiment, task, role)]),
        "seed": experiment.seed,
        "versions": versions(),
    }


def _in_helper(experiment: Experiment, task: Task, device: Any, threads: int) -> None:
    import threading

    import torch

    from unlearn.runtime.progress import silence

    silence()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that nothing half-written stays
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        reference(experiment, task, "control", device)
    except Exception:  # the main process will meet the same error, and show it
        sys.exit(1)


def _end_with_parent() -> None:
    """A killed run must not leave its helper behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _finetune(experiment: Experiment, task: Task, role: Role, device: Any, folder: Path) -> None:
    import torch

    from unlearn.models.loading import save_model
    from unlearn.training import checkpoint
    from unlearn.training.supervised import plan_answers, train_answers

    family = experiment.model
    tokenizer = family.tokenizer(task)
    model: Any = family.start(task, tokenizer, experiment.seed)
    model = model.to(device=device, dtype=getattr(torch, family.finetune.weights))
    rows = [row for name in _trained_on(experiment, task, role) for row in task.examples(name)]
    plan = plan_answers(rows, tokenizer, family.prompt, family.finetune, experiment.seed)
    with progress(f"training the {role} model", total=len(plan.steps)) as advance:
        log = train_answers(model, plan, family.finetune, folder, experiment.seed, advance=advance, notify=notify)
    if distributed.is_main():
        write_json(folder / "history.json", log.history)
        save_model(model, tokenizer, folder)
        checkpoint.discard(folder)


def _score(experiment: Experiment, task: Task, role: Role, path: str, device: Any, folder: Path) -> None:
    from unlearn.models.loading import load_model, load_tokenizer

    model = load_model(path).to(device)
    with progress(f"scoring the {role} model", total=None) as advance:
        scores: Scores = experiment.evaluate.score(model, load_tokenizer(path), experiment.model.prompt, task, advance)
    scores.save(folder)
