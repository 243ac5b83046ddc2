"""What every measured process starts from: the configuration that `unlearn run` would compose, and the original model.

As a command it makes sure of the models that a run finds in the cache, and says where the original model is.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from hydra import compose, initialize_config_dir

from unlearn.data.task import Task
from unlearn.models.loading import load_model, load_tokenizer
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.experiment import Experiment
from unlearn.stages.references import references

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Setup:
    """The experiment, its task, and the original model with its tokenizer."""

    experiment: Experiment
    task: Task
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, overrides: Sequence[str], threads: int, path: str) -> Setup:
        """From overrides as `unlearn run` takes them, with the original model in the folder `path`."""
        torch.set_num_threads(threads)
        experiment = experiment_of(overrides)
        return cls(experiment, experiment.dataset.load(experiment.seed), load_model(path), load_tokenizer(path))


def now() -> tuple[float, float]:
    """Two clocks, in seconds: wall time, and CPU time of all threads of this process."""
    return time.perf_counter(), time.process_time()


def passed(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Seconds between two readings of `now`."""
    return end[0] - start[0], end[1] - start[1]


def experiment_of(overrides: Sequence[str]) -> Experiment:
    """Return the experiment that `unlearn run OVERRIDES` would run."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        experiment: Experiment = build(compose("config", overrides=list(overrides)))
    return experiment.for_device("cpu")  # as the pipeline settles it: the cache keys depend on it


def prepare(overrides: Sequence[str], threads: int) -> dict[str, Any]:
    """Where the original model is, its family, weights and vocabulary, and what making it cost whenever that was.

    It and the control model are trained and scored where the cache lacks them.
    """
    torch.set_num_threads(threads)
    experiment = experiment_of(overrides)
    task = experiment.dataset.load(experiment.seed)
    target = references(experiment, task, torch.device("cpu"), threads)["original"]
    model: Any = load_model(target.path)
    return {
        "path": target.path,
        "family": model.config.model_type,
        "weights": model.num_parameters(),
        "vocabulary": model.config.vocab_size,
        "seconds": sum(stage.seconds for stage in target.stages),
        "peak": max(stage.peak_rss_mb for stage in target.stages),
    }


if __name__ == "__main__":
    print(json.dumps(prepare(**json.loads(sys.argv[1]))))
