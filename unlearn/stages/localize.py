"""The localization stage: which weights of the original model may change, found once and kept for every later run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from unlearn.data.task import Task, digest
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.read import read_json
from unlearn.runtime.store import Built, Store, copy_stage, write_json
from unlearn.stages.keys import Asked, component_key
from unlearn.stages.prepare import Model, cache
from unlearn.stages.subjects import load_subject

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unlearn.localize.base import Localization
    from unlearn.models.mask import Mask
    from unlearn.report.tracking import Tracker
    from unlearn.stages.experiment import Experiment

MASK = "mask.safetensors"


def localize(
    experiment: Experiment, task: Task, original: Model, store: Store, device: torch.device, tracker: Tracker
) -> list[Built]:
    """Find the mask, or take it from the cache, and put it into the run folder with what explains it."""
    if not experiment.localizes:
        return []
    import pandas as pd

    located = locate(experiment, task, original, device)
    mine = store.stage("localize", {"located": located.folder.name}, partial(copy_stage, located.folder))
    about = read_json(mine.folder / "localize.json")
    numbers = {"fraction": about["fraction"], **about["numbers"]}
    tracker.log({f"localize/{name}": value for name, value in numbers.items()}, 0)
    for path in sorted(mine.folder.glob("*.parquet")):
        tracker.log_table(f"localize/{path.stem}", pd.read_parquet(path))
    notify(f"localized: {about['fraction']:.1%} of {about['total']:,} weights may change ({mine.folder / MASK})")
    return [located]


def mask_in(folder: Path) -> Mask:
    """Return the mask that a run folder holds."""
    from unlearn.models.mask import Mask

    return Mask.load(folder / "localize" / MASK)


def locate(experiment: Experiment, task: Task, original: Model, device: torch.device) -> Built:
    """Return the folder with the mask, the numbers and tables that explain it, and any further masks."""

    def build(folder: Path) -> None:
        subject = load_subject(experiment, original.path, "original", device)
        subject = replace(subject, token_budget=experiment.train.micro_tokens)
        with progress("localizing", total=None):
            read = task.only(experiment.localize.reads)
            located = experiment.localize.localize(subject, read, experiment.seed)
        name = type(experiment.localize).__name__
        if not located.mask.selected:
            raise UserError(f"localize= ({name}) selects no weight at all: there would be nothing to train")
        mine = {"localizer": name, "model": original.path, "weights": digest(original.key), "task": task.key()}
        about = located.mask.about or mine
        if about.get("weights", mine["weights"]) != mine["weights"]:
            notify(
                f"localize: the mask was made for other weights of the same shapes ({about.get('model', 'unknown')})"
            )
        _save(replace(located, mask=replace(located.mask, about=about)), name, folder)

    asked = Asked(original.key, experiment.model.prompt)
    key = component_key(experiment.localize, task, asked, experiment.seed)
    key["token_budget"] = experiment.train.micro_tokens
    return cache(experiment).stage("localize", key, build)


def _save(located: Localization, name: str, folder: Path) -> None:
    mask = located.mask
    mask.save(folder / MASK)
    for which, other in located.masks.items():
        other.save(folder / "masks" / f"{which}.safetensors")
    for title, table in located.tables.items():
        table.save(folder / f"{title}.parquet")
    write_json(
        folder / "localize.json",
        {
            "localizer": name,
            "selected": mask.selected,
            "total": mask.total,
            "fraction": mask.fraction,
            "shares": mask.shares(),
            "numbers": dict(located.numbers),
            "words": {name: said for name in located.numbers if (said := located.says(name))},
            "tables": list(located.tables),
        },
    )
