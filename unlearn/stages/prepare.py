"""Original and control models: published checkpoints, or trained here once and kept for every later run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from unlearn.data.task import COMPLETION, Role, Row, Task, digest
from unlearn.models.base import RunSetting
from unlearn.recipe import Recipe
from unlearn.runtime import distributed
from unlearn.runtime.components import cache_key
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.read import read_json
from unlearn.runtime.store import Built, Store, write_json
from unlearn.stages.keys import Key, libraries, path_key, training_key
from unlearn.stages.stopping import Stop
from unlearn.training.update import Update

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from unlearn.data.history import History, Training
    from unlearn.stages.experiment import Experiment


PROMPT = "prompt.json"
"""How the model in a folder was trained to be asked."""


@dataclass(frozen=True)
class Model:
    """A model to start from: where it is, what identifies it, and the stages that made it."""

    path: str
    key: Key
    stages: tuple[Built, ...] = ()


@dataclass(frozen=True)
class Learning:
    """A plain training."""

    rows: tuple[Row, ...]
    """What is learned; none: the model stays as it starts."""
    start: Model | None = None
    """What it starts from; None: the family's own start."""
    recipe: Recipe | None = None
    """None: the family's own."""
    update: Update | None = None
    """None: the run's `finetune_update`."""
    stop: Stop | None = None
    """When it ends before the recipe's length."""


def trained(experiment: Experiment, task: Task, role: Role, device: torch.device) -> Model:
    """Return one of the two models, not scored: the published one, or made here as its history says."""
    if published := experiment.model.published(task, role):
        return Model(published, path_key(published))
    training = _training(experiment, task, role)
    start = trained(experiment, task, "control", device) if training.start == "control" else None
    if start is not None and not training.sets:
        return start
    return learned(experiment, task, role, _learning(task, training, start), device)


def learned(experiment: Experiment, task: Task, name: str, learning: Learning, device: torch.device) -> Model:
    """Return a model that learned so, from the cache or now. name: of the stage."""
    key = _key(experiment, task, learning, learning.start.key if learning.start else None)
    built = cache(experiment).stage(
        name, key, lambda folder: _train(experiment, task, name, learning, device, folder), collective=True
    )
    return Model(str(built.folder), key, (*(learning.start.stages if learning.start else ()), built))


def ask(experiment: Experiment, pairs: Sequence[tuple[str, str]], device: torch.device) -> list[float]:
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
        tokenizer, budget = load_tokenizer(path), experiment.token_budget
        with progress("asking what the model knows", total=None) as advance:
            found = first_token_probabilities(model.to(device), tokenizer, COMPLETION, pairs, budget, advance)
        write_json(folder / "known.json", found)

    key = {"model": path_key(path), "prompt": cache_key(COMPLETION), "pairs": digest(pairs), "libraries": libraries()}
    built = cache(experiment).stage("known", key, build)
    found: list[float] = read_json(built.folder / "known.json", list[float])
    return found


def cache(experiment: Experiment) -> Store:
    """Return the stage cache that runs share."""
    return Store(local(experiment.cache), hashed=True, notify=notify)


def has_control(experiment: Experiment, task: Task) -> bool:
    """Whether there is to be a control model: of what pretraining taught there can only be a published one."""
    if experiment.control_model == "none":
        return False
    family = experiment.model
    return history(experiment, task).control is not None or family.published(task, "control") is not None


def run_setting(experiment: Experiment, task: Task) -> RunSetting:
    """Return what the run is like, for components to refuse."""
    masked, lora = experiment.localizes, experiment.lora is not None
    control, epochs = has_control(experiment, task), experiment.train.epochs is not None
    return RunSetting(task.modality, experiment.model.source, control, masked, lora, epochs)


def history(experiment: Experiment, task: Task) -> History:
    """How original and control models are made: a pretrained model may know the task already."""
    return task.pretrained if task.pretrained and experiment.model.source else task.history


def require_trained(experiment: Experiment, task: Task) -> None:
    """UserError where a model that the experiment compares with would have to be trained first."""
    roles: list[Role] = ["original", "control"] if has_control(experiment, task) else ["original"]
    for role in roles:
        if not is_there(experiment, task, role):
            raise UserError(f"there is no {role} model yet: add prepare to stages=")


def is_there(experiment: Experiment, task: Task, role: Role) -> bool:
    """Return whether the model is published, or was trained here."""
    if experiment.model.published(task, role):
        return True
    return cache(experiment).folder(role, model_key(experiment, task, role)).exists()


def model_key(experiment: Experiment, task: Task, role: Role) -> Key:
    """Return what identifies one of the two models, before it is made."""
    if published := experiment.model.published(task, role):
        return path_key(published)
    training = _training(experiment, task, role)
    start = model_key(experiment, task, "control") if training.start == "control" else None
    if start is not None and not training.sets:
        return start
    return _key(experiment, task, _learning(task, training), start)


def _training(experiment: Experiment, task: Task, role: Role) -> Training:
    training = history(experiment, task).of(role)
    assert training is not None, "has_control sees to it"
    return training


def _learning(task: Task, training: Training, start: Model | None = None) -> Learning:
    rows = tuple(row for name in training.sets for row in task.rows(name))
    return Learning(rows, start, training.recipe, stop=Stop.of(training.until, task))


def _key(experiment: Experiment, task: Task, learning: Learning, start: Key | None) -> Key:
    family = experiment.model
    recipe, update = learning.recipe or family.finetune, experiment.finetune_update
    key = training_key(start or family.key(task), family.prompt, recipe, update, learning.rows, experiment.seed)
    return key | {"stop": cache_key(learning.stop)}


def _train(
    experiment: Experiment, task: Task, name: str, learning: Learning, device: torch.device, folder: Path
) -> None:
    import torch

    from unlearn.families.base import Loaded
    from unlearn.training import checkpoint

    family, start = experiment.model, learning.start
    recipe = learning.recipe or family.finetune
    model: Any
    model, tokenizer = family.load(start.path) if start else family.start(task, experiment.seed)
    model = model.to(device=device, dtype=getattr(torch, recipe.weights))
    title = f"training the {name} model"
    log = fit(experiment, model, tokenizer, learning, title, folder) if learning.rows else []
    if distributed.is_main():
        write_json(folder / "history.json", log)
        write_json(folder / PROMPT, asdict(family.prompt))
        family.save(Loaded(model, tokenizer), folder)
        checkpoint.discard(folder)


def fit(
    experiment: Experiment, model: Any, tokenizer: Any, learning: Learning, title: str, folder: Path
) -> list[dict[str, Any]]:
    """Train a model in place on rows; return the log, a row a step. A checkpoint stays in the folder."""
    from unlearn.training.loop import Setup, Watch, train

    family, seed = experiment.model, experiment.seed
    recipe = learning.recipe or family.finetune
    objective = family.objective(learning.rows, tokenizer, recipe, seed)
    with progress(title, total=objective.steps) as advance:
        setup = Setup(recipe, seed, learning.update or experiment.finetune_update)
        watch = Watch(advance=advance, notify=notify)
        if learning.stop:
            prompt, budget = experiment.model.prompt, experiment.token_budget
            watch = replace(watch, enough=learning.stop.enough(model, tokenizer, prompt, budget))
        return train(family.policy(model), objective, setup, folder, watch).history
