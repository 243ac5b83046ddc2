"""`unlearn` with the arguments given here, up to the end of its first training step, where the process ends."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

from unlearn.cli.main import main
from unlearn.training import loop

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.training.checkpoint import Log

train = loop.train


def leave(*args: Any, **parts: float) -> None:
    """End the process: what `train` calls after a step."""
    os._exit(0)


def train_one_step(policy: Any, objective: Any, setup: loop.Setup, folder: Path, watch: Any = None) -> Log:
    """Run the real loop, which ends with its first step."""
    return train(policy, objective, setup, folder, loop.Watch(advance=leave))


if __name__ == "__main__":  # a process that trains beside this one imports it again
    with mock.patch.object(loop, "train", train_one_step):
        main(sys.argv[1:])
