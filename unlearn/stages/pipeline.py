"""The stages of a run, in order: original and control models -> localize -> unlearn -> score -> attack -> report."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.data.task import Role, Task
from unlearn.models.layered import below
from unlearn.report.tracking import Tracker
from unlearn.runtime import distributed
from unlearn.runtime.paths import local_state
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.store import MANIFEST, Built, Store, disk_errors, key_hash, read_json, write_json
from unlearn.stages.check import check_component, check_family
from unlearn.stages.device import hardware
from unlearn.stages.experiment import Experiment
from unlearn.stages.localize import MASK, locate
from unlearn.stages.prepare import Model, ask, has_control, require_trained, run_setting, trained
from unlearn.stages.references import references, score_key
from unlearn.stages.run_folder import UNLEARNED, attacked_model, costs, keep_config, kept, record, run_folder
from unlearn.stages.unlearn import References, check_method, unlearn

if TYPE_CHECKING:
    import torch

    from unlearn.models.mask import Mask


def run(experiment: Experiment, config: dict[str, Any], choices: Mapping[str, str]) -> Path:
    """Run the experiment, or go on with it where its folder says it stopped; returns the run folder.

    config: the resolved configuration, kept in the folder. choices: the names chosen for each config group.
    """
    folder = run_folder(experiment, kept(config), choices)
    task = experiment.dataset.load(experiment.seed, lambda pairs: ask(experiment, pairs, hardware(experiment)[0]))
    check_method(experiment, task)
    check_family(experiment, task)
    check_component("localize", experiment.localize, task, run_setting(experiment, task))
    if experiment.attacks:
        from unlearn.stages.attack import check_attacks

        check_attacks(experiment, task)
    device, threads = hardware(experiment)
    experiment = experiment.for_device(device.type).with_prompt_of(task)
    if distributed.is_main():
        keep_config(folder, kept(config))
    store = Store(folder, hashed=False, notify=notify)
    tracker = experiment.tracker.start(folder.name, config, folder)
    stages: list[Built] = []
    try:
        if experiment.only_localizes:  # there is nothing to compare with
            original = trained(experiment, task, "original", device)
            stages += [*original.stages, *_localize(experiment, task, original, store, device, tracker)]
            if distributed.is_main():
                record(experiment, choices, task, folder, device, {}, stages)
        elif set(experiment.stages) - {"attack", "report"}:
            known = references(experiment, task, device, threads)
            stages += [stage for reference in known.values() for stage in reference.stages]
            if "localize" in experiment.stages:
                stages += _localize(experiment, task, known["original"], store, device, tracker)
            if "unlearn" in experiment.stages:
                stages.append(unlearn(experiment, task, known, _mask(experiment, store), store, device, tracker))
            if "score" in experiment.stages:
                stages += _score(experiment, task, known, store, device)
                _evaluate(experiment, folder)
            if distributed.is_main():
                record(experiment, choices, task, folder, device, known, stages)
        attacked = experiment.attacks and _attack(experiment, choices, task, folder, device)
        if distributed.is_main() and "report" in experiment.stages:
            _report(folder, tracker)
        elif distributed.is_main() and attacked:
            _show_leaks(folder, tracker)
        elif "unlearn" in experiment.stages:
            notify(f"unlearned model: {folder / 'unlearned'}")
    finally:
        tracker.finish()
    return folder


def _localize(
    experiment: Experiment, task: Task, original: Model, store: Store, device: torch.device, tracker: Tracker
) -> list[Built]:
    """Find the mask, or take it from the cache, and put it into the run folder with what explains it."""
    if not experiment.localizes:
        return []
    import pandas as pd

    located = locate(experiment, task, original, device)
    mine = store.stage("localize", {"located": located.folder.name}, functools.partial(_copy, located.folder))
    about = read_json(mine.folder / "localize.json")
    numbers = {"fraction": about["fraction"], **about["numbers"]}
    tracker.log({f"localize/{name}": value for name, value in numbers.items()}, 0)
    for path in sorted(mine.folder.glob("*.parquet")):
        tracker.log_table(f"localize/{path.stem}", pd.read_parquet(path))
    notify(f"localized: {about['fraction']:.1%} of {about['total']:,} weights may change ({mine.folder / MASK})")
    return [located]


def _mask(experiment: Experiment, store: Store) -> Mask | None:
    """The mask in the run folder, None where nothing is localized."""
    if not experiment.localizes:
        return None
    from unlearn.models.mask import Mask

    return Mask.load(store.root / "localize" / MASK)


def _score(experiment: Experiment, task: Task, known: References, store: Store, device: torch.device) -> list[Built]:
    """Score the unlearned model, and put the references' tables beside its own: the run folder then needs no cache."""
    from unlearn.models.loading import load_model, load_tokenizer

    unlearned = store.root / "unlearned"

    def build(folder: Path) -> None:
        model: Any = load_model(str(unlearned))
        with progress("scoring the unlearned model", total=None) as advance:
            scores = experiment.evaluate.score(
                model.to(device), load_tokenizer(str(unlearned)), experiment.model.prompt, task, advance
            )
        scores.save(folder)

    for role, reference in known.items():
        copy = functools.partial(_copy, reference.scores)
        store.stage(f"scores/{role}", {"scores": reference.scores.name}, copy)
    key = score_key(experiment, task, {"unlearned": read_json(unlearned / "manifest.json")["key"]})
    return [store.stage("scores/unlearned", key, build)]


def _copy(source: Path, folder: Path) -> None:
    """What a stage of the cache made, without its manifest."""
    with disk_errors(folder):
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)


def _evaluate(experiment: Experiment, folder: Path) -> None:
    """Compute every metric of every scored model from its tables."""
    from unlearn.metrics.evaluate import evaluate, to_rows
    from unlearn.score.table import Scores

    if not distributed.is_main():
        return
    tables = {
        role: Scores.load(folder / "scores" / role)
        for role in ("original", "control", "unlearned")
        if (folder / "scores" / role).is_dir()
    }
    with progress("computing metrics", total=len(tables)) as advance:
        rows = {}
        for role, scores in tables.items():
            rows[role] = to_rows(evaluate(experiment.metric, scores, tables.get("control")))
            advance(1)
    write_json(folder / "metrics.json", rows)


def _attack(experiment: Experiment, choices: Mapping[str, str], task: Task, folder: Path, device: torch.device) -> bool:
    """Attack the unlearned model and its references; whether that was done (in one process alone)."""
    from unlearn.stages.attack import AttackedModel, attack

    if distributed.world_size() > 1:
        notify(f"attacks run in one process: unlearn run stages=[attack] run={folder}")
        return False
    foreign = attacked_model(experiment)
    model = foreign or folder / UNLEARNED
    if set(experiment.stages) <= {"attack", "report"}:
        require_trained(experiment, task)
    original = trained(experiment, task, "original", device)
    key: dict[str, Any]
    beneath = below(model)
    if foreign:
        key = {"path": str(model), "files": [local_state(path) for path in (str(model), beneath) if path]}
        if beneath and beneath != original.path:
            notify(f"the layers belong to {beneath}, which is not the original to compare with ({original.path})")
    else:
        made = read_json(model / MANIFEST)
        key = {"unlearned": made["key"]}
        if key_hash(made["inputs"]["model"]) != key_hash(original.key):
            notify("the original is not the one that was unlearned: it was trained again, or comes from elsewhere")
    accused: dict[Role, AttackedModel] = {
        "original": AttackedModel("original", original.path, original.key),
        "unlearned": AttackedModel("unlearned", str(model), key, beneath),
    }
    if has_control(experiment, task):
        control = trained(experiment, task, "control", device)
        accused["control"] = AttackedModel("control", control.path, control.key)
    stage = attack(experiment, task, accused, folder, device)
    if (folder / "run.json").is_file():
        about = read_json(folder / "run.json")
        write_json(folder / "run.json", about | {"stages": costs(folder, [stage])})
    else:
        record(experiment, choices, task, folder, device, {}, [stage])
    return True


def _show_leaks(folder: Path, tracker: Tracker) -> None:
    from unlearn.report.attacks_folder import read_attacks
    from unlearn.report.leak import print_leaks, track_leaks

    print_leaks(folder)
    track_leaks(read_attacks(folder / "attacks"), tracker)


def _report(folder: Path, tracker: Tracker) -> None:
    from unlearn.report.page import write_report
    from unlearn.report.summary import print_summary

    with progress("writing the report", total=None):
        write_report(folder, tracker)
    print_summary(folder)
