"""What several tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.data.prompt import Encoded
from unlearn.models.base import RunSetting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.data.task import Example, Task

ROOT = Path(__file__).resolve().parent.parent


def encode(question: str, answer: str) -> Encoded:
    """One token a character, in a vocabulary of 64, EOS = 1."""
    ids = [ord(c) % 62 + 2 for c in question + answer]
    return Encoded((*ids, 1), len(question))


RUN = RunSetting("text", None, control=True, masked=False, lora=False)
"""A run of the tiny model, with a control."""


def retaining(task: Task, *rows: Example) -> Task:
    """Return the task with these retain rows."""
    return replace(task, sets={**task.sets, "retain": rows})


SMALL = [
    "dataset.authors=20",
    "dataset.facts_per_author=3",
    "dataset.world_facts=6",
    "model.hidden=32",
    "model.layers=2",
    "model.heads=2",
    "model.mlp=64",
    "model.vocabulary=600",
    "model.finetune.epochs=3",
    "train.steps=12",
    "train.warmup=0.2",
    "tracker=none",
    "attack=none",
]
"""Overrides that make a whole run last seconds. Its models know little: enough to test the machinery."""


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def unlearn(
    *arguments: str, cwd: Path, launcher: Sequence[str] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own, to its end."""
    command = [*launcher, "-m", "unlearn", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=600, env=_environment(), check=False
    )


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start the real command in a process group of its own, to be interrupted or waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "unlearn", *arguments],
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    )
