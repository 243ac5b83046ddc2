"""What every measured process starts from: the configuration that `unlearn run` would compose, and the target model.

As a command it makes sure of the models that a run finds in the cache, and says where the target model is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from unlearn.config import build, conf_dir
from unlearn.data.task import Task
from unlearn.experiment import Experiment
from unlearn.models.loading import load_model, load_tokenizer
from unlearn.prepare import references


@dataclass(frozen=True)
class Setup:
    """The experiment, its task, and the target model with its tokenizer."""

    experiment: Experiment
    task: Task
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, overrides: Sequence[str], threads: int, path: str) -> Setup:
        """From overrides as `unlearn run` takes them, with the target model in the folder `path`."""
        torch.set_num_threads(threads)
        experiment = experiment_of(overrides)
        return cls(experiment, experiment.dataset.load(experiment.seed), load_model(path), load_tokenizer(path))


def experiment_of(overrides: Sequence[str]) -> Experiment:
    """The experiment that `unlearn run OVERRIDES` would run."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        experiment: Experiment = build(compose("config", overrides=list(overrides)))
    return experiment


def prepare(overrides: Sequence[str], threads: int) -> dict[str, Any]:
    """Folder, family, weights and vocabulary of the target model; it and the retain model are trained if need be."""
    torch.set_num_threads(threads)
    experiment = experiment_of(overrides)
    task = experiment.dataset.load(experiment.seed)
    path = references(experiment, task, torch.device("cpu"), threads)["target"].path
    model: Any = load_model(path)
    size = {"weights": model.num_parameters(), "vocabulary": model.config.vocab_size}
    return {"path": path, "family": model.config.model_type, **size}


if __name__ == "__main__":
    print(json.dumps(prepare(**json.loads(sys.argv[1]))))
