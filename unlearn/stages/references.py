"""The models that a run compares with: the original and the control model, both scored, trained at once where small."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.runtime import distributed
from unlearn.runtime.progress import progress
from unlearn.stages.prepare import Model, cache, has_control, history, is_there, require_trained, trained
from unlearn.stages.score import score_key, score_reference

if TYPE_CHECKING:
    import torch

    from unlearn.data.task import Role, Task
    from unlearn.stages.experiment import Experiment


@dataclass(frozen=True)
class Reference(Model):
    """A model to compare with: also where its scores are."""

    scores: Path = Path()


def references(experiment: Experiment, task: Task, device: torch.device, threads: int) -> dict[Role, Reference]:
    """Return the original model and, unless switched off or impossible, the control model, both scored.

    Two small models that both have to be trained are trained at once, in two processes of one thread each: on two cores
    that takes half the time of one after the other with two threads.
    """
    roles: list[Role] = ["original", "control"] if has_control(experiment, task) else ["original"]
    to_train = [role for role in roles if not is_there(experiment, task, role)]
    if "prepare" not in experiment.stages:
        require_trained(experiment, task)
    helper = None
    apart = history(experiment, task).original.start == "base"  # neither waits for the other
    if apart and len(to_train) == 2 and threads == 1 and device.type == "cpu" and distributed.world_size() == 1:
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
    if "control" in roles:  # where the helper failed, this does its work again and shows the error
        found["control"] = reference(experiment, task, "control", device)
    if helper is not None:  # what the helper built was built in this run
        built = tuple(replace(stage, cached=False) for stage in found["control"].stages)
        found["control"] = replace(found["control"], stages=built)
    return found


def reference(experiment: Experiment, task: Task, role: Role, device: torch.device) -> Reference:
    """One of the two models, trained and scored if need be."""
    model = trained(experiment, task, role, device)
    scored = cache(experiment).stage(
        f"scores-{role}",
        score_key(experiment, task, model.key),
        lambda folder: score_reference(experiment, task, model.path, role, device, folder),
    )
    return Reference(model.path, model.key, (*model.stages, scored), scored.folder)


def _in_helper(experiment: Experiment, task: Task, device: torch.device, threads: int) -> None:
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
    """End with the run: a killed one must not leave its helper behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
