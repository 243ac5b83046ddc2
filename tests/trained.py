"""Small models of which it is known what they know, to test the instrument by: trained once for the files of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from hydra import compose, initialize_config_dir

from unlearn.leak.tables import load_leaks
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.attack import AttackedModel, attack
from unlearn.stages.prepare import trained

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import pytest

    from unlearn.data.task import Task
    from unlearn.leak.leak_table import Leaks
    from unlearn.stages.experiment import Experiment

SIZES = [
    *("dataset.authors=40", "dataset.facts_per_author=6", "dataset.world_facts=5", "dataset.seed=0", "tracker=none"),
    *("model.hidden=64", "model.mlp=192", "model.vocabulary=1000", "model.finetune.epochs=24"),
]
"""Models that know 94 % of 24 facts to forget, after seconds of training."""


def shared(factory: pytest.TempPathFactory) -> Path:
    """A folder for all test files of one process: what one of them has trained the next one finds in the cache."""
    folder = factory.getbasetemp() / "trained"
    folder.mkdir(exist_ok=True)
    return folder


def experiment(cache: Path, *overrides: str) -> Experiment:
    return sized(cache, *SIZES, *overrides)


def sized(cache: Path, *overrides: str) -> Experiment:
    """Return the experiment that the overrides make, of whatever size."""
    torch.set_num_threads(1)  # more are slower for models so small, and by far where other tests run beside
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        built: Experiment = build(compose("config", overrides=[f"cache={cache}", "threads=1", *overrides]))
    return built


def folder_of(mine: Experiment, task: Task, part: Any) -> str:
    """The experiment's "original" or "control" model."""
    return trained(mine, task, part, torch.device("cpu")).path


def accuse(mine: Experiment, task: Task, models: Mapping[str, str], folder: Path, base: str | None = None) -> Leaks:
    """The leak report of an original, an unlearned and a control model. base: what lies below the unlearned one."""
    attacked: dict[Any, AttackedModel] = {
        part: AttackedModel(part, path, {"path": path}, base if part == "unlearned" else None)  # type: ignore[arg-type]
        for part, path in models.items()
    }
    attack(mine, task, attacked, folder, torch.device("cpu"))
    return load_leaks(folder / "attacks" / "leak.json")[0]


def attack_of(row: str, attacks: Collection[str]) -> str:
    """Which of the attacks a row belongs to: an attack with several rows ends their names with its parts'."""
    return max((name for name in attacks if row == name or row.startswith(f"{name}_")), key=len)
