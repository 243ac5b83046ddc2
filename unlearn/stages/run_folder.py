"""The run folder: where a run is or will be, the configuration kept in it, and what it says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Task, digest
from unlearn.models.layered import is_model
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import notify
from unlearn.runtime.read import read_json, read_yaml
from unlearn.runtime.resources import Cost
from unlearn.runtime.store import MANIFEST, Built, disk_errors, write_file, write_json
from unlearn.runtime.version import __version__
from unlearn.stages.config_keys import KEYS
from unlearn.stages.unlearn import REQUESTS, UNLEARNED, References

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unlearn.stages.experiment import Experiment

_MADE_BEFORE = (
    ("unlearn", "localize", "localize/manifest.json"),
    ("score", "unlearn", f"{UNLEARNED}/{MANIFEST}"),
    ("attack", "unlearn", f"{UNLEARNED}/{MANIFEST}"),
    ("report", "score", "metrics.json"),
)
# without any of these a folder holds nothing worth keeping
_STARTED = ("localize", REQUESTS, UNLEARNED, f"{UNLEARNED}.partial", "scores")


@dataclass(frozen=True)
class Said:
    """What later commands need of run.json."""

    choices: dict[str, str] = field(default_factory=dict)
    """The name chosen for each config group."""
    stages: tuple[Cost, ...] = ()
    """What has been made."""
    prompt: PromptFormat | None = None
    """How the run put its questions."""


def said(folder: Path) -> Said:
    """Return what a run folder says of itself, nothing where it has no run.json; UserError where that is damaged."""
    path = folder / "run.json"
    found: Said = read_json(path, Said) if path.is_file() else Said()
    return found


def kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that identifies a run: attacks can be made again, and so are not in it."""
    return {key: value for key, value in config.items() if KEYS.get(key, "models") == "models"}


def run_folder(experiment: Experiment, kept: Mapping[str, Any], choices: Mapping[str, str]) -> Path:
    """Return where the run of that configuration is or will be.

    UserError where something else is there, or where the stages lack what an earlier one would have made.
    """
    named = [choices.get(group, "") for group in ("dataset", "model", "method")]
    named += [choices.get("localize", "")] if experiment.localizes else []
    name = "-".join([*named, f"seed{experiment.seed}"])
    if (model := attacked_model(experiment)) is not None:  # it has no folder of its own yet
        name, kept = f"attack-{model.name}", {**kept, "run": str(model)}
    folder = local(experiment.output or f"outputs/{name}-{digest(kept)[:6]}")
    _check_free(folder, kept)
    _check_stages(experiment, folder)
    return folder


def attacked_model(experiment: Experiment) -> Path | None:
    """Return the model or adapter folder that `run=` names, None where it names a run, or nothing."""
    if experiment.run is None:
        return None
    folder = local(experiment.run)
    return folder if is_model(folder) else None


@contextmanager
def claimed(folder: Path, kept: Mapping[str, Any]) -> Iterator[None]:
    """Hold the run folder, with config.yaml written; the same run elsewhere waits until this one is done with it.

    UserError where it holds, or another process is making, a run of another configuration.
    """
    if not distributed.is_main():
        yield
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _check_free(folder, kept, started=True)
            notify(f"waiting for another run in {folder}")
            lock.acquire()
    try:
        _check_free(folder, kept)
        keep_config(folder, kept)
        yield
    finally:
        lock.release()


def keep_config(folder: Path, kept: Mapping[str, Any]) -> None:
    """Write config.yaml."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(dict(kept)))
    write_file(folder / "config.yaml", lambda temporary: temporary.write_text(text, encoding="utf-8"))


def record(
    experiment: Experiment,
    choices: Mapping[str, str],
    task: Task,
    folder: Path,
    device: torch.device,
    known: References,
    stages: Sequence[Built],
) -> None:
    """Write run.json: what the report says about the run beside its numbers."""
    from unlearn.models.loading import count_weights

    alone = bool(known) and "control" not in known
    notes = ["no control model: forget quality and other comparisons with it are left out"] if alone else []
    notes += [] if task.probes else ["the task has no questions: nothing was asked, and no metric is defined"]
    write_json(
        folder / "run.json",
        {
            "version": __version__,
            "name": folder.name,
            "choices": dict(choices),
            "seed": experiment.seed,
            "task": {"name": task.name, "split": task.split},
            "device": str(device),
            "prompt": asdict(experiment.model.prompt),
            "n_parameters": count_weights(folder / UNLEARNED) if known else None,
            "has_control": "control" in known,
            "notes": notes,
            "stages": costs(folder, stages),
        },
    )


def costs(folder: Path, stages: Sequence[Built]) -> list[dict[str, Any]]:
    """Return what each stage cost; what this folder's earlier runs built keeps its entry when found done."""
    costs = {stage["name"]: stage for stage in map(asdict, said(folder).stages)}
    for s in stages:
        if not (s.cached and s.name in costs):
            costs[s.name] = {"name": s.name, "seconds": s.seconds, "peak_rss_mb": s.peak_rss_mb, "cached": s.cached}
    return list(costs.values())


def _check_free(folder: Path, kept: Mapping[str, Any], started: bool = False) -> None:
    """Raise UserError where the folder holds something else than this run. started: another process is at it."""
    path = folder / "config.yaml"
    if path.is_file():
        earlier = read_yaml(path)
        started = started or any((folder / name).exists() for name in _STARTED)
        if started and (difference := _difference(earlier, kept)) is not None:
            raise UserError(f"{folder} holds a run of another configuration ({difference}): choose another output=")
    elif folder.exists() and (not folder.is_dir() or any(not f.name.startswith(".") for f in folder.iterdir())):
        raise UserError(f"{folder} is not a run folder and not empty: choose another output=")


def _check_stages(experiment: Experiment, folder: Path) -> None:
    """Raise UserError where the stages make nothing, or lack what an earlier one would have made."""
    if experiment.stages == ("attack",) and not experiment.attack:
        raise UserError("'stages' has attack alone, but attack=none makes none: choose attack=NAME")
    if experiment.stages == ("localize",) and not experiment.localizes:
        raise UserError("'stages' has localize alone, but localize=none selects everything: choose localize=NAME")
    for stage, before, product in _MADE_BEFORE:
        if not experiment.localizes if before == "localize" else experiment.only_localizes:
            continue
        if before == "score" and "attack" in experiment.stages:
            continue
        if before == "unlearn" and attacked_model(experiment) is not None:
            continue
        if stage in experiment.stages and before not in experiment.stages and not (folder / product).is_file():
            raise UserError(f"'stages' has {stage}, but there is no {folder / product} yet: add {before}")


def _difference(earlier: Any, now: Any, where: str = "") -> str | None:
    """Return the first key on which two configurations differ, in words; None where they agree."""
    if isinstance(earlier, Mapping) and isinstance(now, Mapping):
        for key in [*now, *(key for key in earlier if key not in now)]:
            place = f"{where}.{key}" if where else str(key)
            if (found := _difference(earlier.get(key), now.get(key), place)) is not None:
                return found
        return None
    if json.dumps(earlier) == json.dumps(now):
        return None
    return f"{where}: {str(earlier)[:60]} there, {str(now)[:60]} here"
