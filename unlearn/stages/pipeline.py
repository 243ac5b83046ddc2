"""The stages of a run, in order: original and control models -> localize -> unlearn -> score -> attack -> report."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn import __version__
from unlearn.attacks.base import Role as Role
from unlearn.data.task import Task, digest
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import check_needs
from unlearn.models.lora import base_of
from unlearn.models.pretrained import local_state
from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.store import MANIFEST, Built, Store, disk_errors, key_hash, read_json, write_file, write_json
from unlearn.stages.device import hardware
from unlearn.stages.experiment import Experiment
from unlearn.stages.localize import MASK, locate
from unlearn.stages.prepare import Model, ask, has_control, references, require_trained, score_key, trained
from unlearn.stages.rerun import is_model
from unlearn.stages.unlearn import References, unlearn

if TYPE_CHECKING:
    from unlearn.models.mask import Mask

UNLEARNED = "unlearned"  # the folder of the unlearned model

# keys that do not change what a run computes up to its scores: attacks come after them, and can be made again
NOT_IN_KEY = ("output", "cache", "tracker", "stages", "device", "threads", "attack", "leak", "relearn", "run")
_MADE_BEFORE = (
    ("unlearn", "localize", "localize/manifest.json"),
    ("score", "unlearn", f"{UNLEARNED}/{MANIFEST}"),
    ("attack", "unlearn", f"{UNLEARNED}/{MANIFEST}"),
    ("report", "score", "metrics.json"),
)
# without any of these a folder holds nothing worth keeping
_STARTED = ("localize", UNLEARNED, f"{UNLEARNED}.partial", "scores")


def run(experiment: Experiment, config: dict[str, Any], choices: Mapping[str, str]) -> Path:
    """Run the experiment, or go on with it where its folder says it stopped; returns the run folder.

    config: the resolved configuration, kept in the folder. choices: the names chosen for each config group.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_IN_KEY}
    folder = run_folder(experiment, kept, choices)
    task = experiment.dataset.load(experiment.seed, lambda pairs: ask(experiment, pairs, hardware(experiment)[0]))
    check_needs(experiment.method, task)
    experiment.localize.check(task)
    if _attacks(experiment):
        from unlearn.stages.attack import check_attacks

        check_attacks(experiment, task)
    device, threads = hardware(experiment)
    experiment = experiment.for_device(device.type).with_prompt_of(task)
    if distributed.is_main():
        _keep_config(folder, kept)
    store = Store(folder, hashed=False, notify=notify)
    tracker = experiment.tracker.start(folder.name, config, folder)
    stages: list[Built] = []
    try:
        if _only_localizes(experiment):  # there is nothing to compare with
            original = trained(experiment, task, "original", device)
            stages += [*original.stages, *_localize(experiment, task, original, store, device, tracker)]
            if distributed.is_main():
                _record(experiment, choices, task, folder, device, {}, stages)
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
                _record(experiment, choices, task, folder, device, known, stages)
        attacked = _attacks(experiment) and _attack(experiment, choices, task, folder, device)
        if distributed.is_main() and "report" in experiment.stages:
            _report(folder, tracker)
        elif distributed.is_main() and attacked:
            _show_leaks(folder, tracker)
        elif "unlearn" in experiment.stages:
            notify(f"unlearned model: {folder / 'unlearned'}")
    finally:
        tracker.finish()
    return folder


def run_folder(experiment: Experiment, kept: Mapping[str, Any], choices: Mapping[str, str]) -> Path:
    """Where the run of that configuration is or will be. UserError where something else is there, or too little."""
    from omegaconf import OmegaConf

    named = [choices.get(group, "") for group in ("dataset", "model", "method")]
    named += [choices.get("localize", "")] if _localizes(experiment) else []
    name = "-".join([*named, f"seed{experiment.seed}"])
    if experiment.run and _is_model(experiment):  # it has no folder of its own yet
        name, kept = f"attack-{local(experiment.run).name}", {**kept, "run": str(local(experiment.run))}
    folder = local(experiment.output or f"outputs/{name}-{digest(kept)[:6]}")
    path = folder / "config.yaml"
    if path.is_file():
        try:
            earlier = OmegaConf.to_container(OmegaConf.load(path))
        except Exception as error:
            raise UserError(f"cannot read {path}: {error}") from error
        started = any((folder / name).exists() for name in _STARTED)
        if started and (difference := _difference(earlier, kept)) is not None:
            raise UserError(f"{folder} holds a run of another configuration ({difference}): choose another output=")
    elif folder.exists() and (not folder.is_dir() or any(not f.name.startswith(".") for f in folder.iterdir())):
        raise UserError(f"{folder} is not a run folder and not empty: choose another output=")
    if experiment.stages == ("attack",) and not experiment.attack:
        raise UserError("'stages' has attack alone, but attack=none makes none: choose attack=NAME")
    if experiment.stages == ("localize",) and not _localizes(experiment):
        raise UserError("'stages' has localize alone, but localize=none selects everything: choose localize=NAME")
    for stage, before, product in _MADE_BEFORE:
        if not _localizes(experiment) if before == "localize" else _only_localizes(experiment):
            continue
        if (before == "unlearn" and _is_model(experiment)) or (before == "score" and "attack" in experiment.stages):
            continue
        if stage in experiment.stages and before not in experiment.stages and not (folder / product).is_file():
            raise UserError(f"'stages' has {stage}, but there is no {folder / product} yet: add {before}")
    return folder


def _keep_config(folder: Path, kept: Mapping[str, Any]) -> None:
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(dict(kept)))
    write_file(folder / "config.yaml", lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _difference(earlier: Any, now: Any, where: str = "") -> str | None:
    """The first key on which two configurations differ, in words; None where they agree."""
    if isinstance(earlier, Mapping) and isinstance(now, Mapping):
        for key in [*now, *(key for key in earlier if key not in now)]:
            place = f"{where}.{key}" if where else str(key)
            if (found := _difference(earlier.get(key), now.get(key), place)) is not None:
                return found
        return None
    if json.dumps(earlier) == json.dumps(now):
        return None
    return f"{where}: {str(earlier)[:60]} there, {str(now)[:60]} here"


def _localizes(experiment: Experiment) -> bool:
    return not isinstance(experiment.localize, NoLocalization)


def _attacks(experiment: Experiment) -> bool:
    return "attack" in experiment.stages and bool(experiment.attack)


def _only_localizes(experiment: Experiment) -> bool:
    stages = set(experiment.stages)
    return _localizes(experiment) and "localize" in stages and stages <= {"prepare", "localize", "report"}


def _localize(
    experiment: Experiment, task: Task, original: Model, store: Store, device: Any, tracker: Any
) -> list[Built]:
    """Find the mask, or take it from the cache, and put it into the run folder with what explains it."""
    if not _localizes(experiment):
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
    if not _localizes(experiment):
        return None
    from unlearn.models.mask import Mask

    return Mask.load(store.root / "localize" / MASK)


def _score(experiment: Experiment, task: Task, known: References, store: Store, device: Any) -> list[Built]:
    """Score the unlearned model, and put the references' tables beside its own: the run folder then needs no cache."""
    from unlearn.models.loading import load_model, load_tokenizer

    unlearned = store.root / "unlearned"

    def build(folder: Path) -> None:
        model = load_model(str(unlearned)).to(device)
        with progress("scoring the unlearned model", total=None) as advance:
            scores = experiment.evaluate.score(
                model, load_tokenizer(str(unlearned)), experiment.model.prompt, task, advance
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


def _attack(experiment: Experiment, choices: Mapping[str, str], task: Task, folder: Path, device: Any) -> bool:
    """Attack the unlearned model and its references; whether that was done (in one process alone)."""
    from unlearn.stages.attack import AttackedModel, attack

    if distributed.world_size() > 1:
        notify(f"attacks run in one process: unlearn run stages=[attack] run={folder}")
        return False
    model = local(experiment.run) if experiment.run and _is_model(experiment) else folder / UNLEARNED
    if set(experiment.stages) <= {"attack", "report"}:
        require_trained(experiment, task)
    original = trained(experiment, task, "original", device)
    key: dict[str, Any]
    below = base_of(model)
    if _is_model(experiment):
        key = {"path": str(model), "files": [local_state(path) for path in (str(model), below) if path]}
        if below and below != original.path:
            notify(
                f"the adapter belongs to {below}, which is not the original that it is compared with ({original.path})"
            )
    else:
        made = read_json(model / MANIFEST)
        key = {"unlearned": made["key"]}
        if key_hash(made["inputs"]["original"]) != key_hash(original.key):
            notify("the original is not the one that was unlearned: it was trained again, or comes from elsewhere")
    accused: dict[Role, AttackedModel] = {
        "original": AttackedModel("original", original.path, original.key),
        "unlearned": AttackedModel("unlearned", str(model), key, below),
    }
    if has_control(experiment, task):
        control = trained(experiment, task, "control", device)
        accused["control"] = AttackedModel("control", control.path, control.key)
    stage = attack(experiment, task, accused, folder, device)
    if (folder / "run.json").is_file():
        about = read_json(folder / "run.json")
        write_json(folder / "run.json", about | {"stages": _costs(folder, [stage])})
    else:
        _record(experiment, choices, task, folder, device, {}, [stage])
    return True


def _show_leaks(folder: Path, tracker: Any) -> None:
    from unlearn.report.folder import read_attacks
    from unlearn.report.leak import print_leaks, track_leaks

    print_leaks(folder)
    track_leaks(read_attacks(folder / "attacks"), tracker)


def _is_model(experiment: Experiment) -> bool:
    """Whether `run=` names a model or adapter folder, not a run."""
    return experiment.run is not None and is_model(local(experiment.run))


def _record(
    experiment: Experiment,
    choices: Mapping[str, str],
    task: Task,
    folder: Path,
    device: Any,
    known: References,
    stages: list[Built],
) -> None:
    """run.json: what the report says about the run beside its numbers."""
    from unlearn.models.loading import count_weights

    alone = bool(known) and "control" not in known
    notes = ["no control model: forget quality and other comparisons with it are left out"] if alone else []
    write_json(
        folder / "run.json",
        {
            "version": __version__,
            "name": folder.name,
            "choices": dict(choices),
            "seed": experiment.seed,
            "task": {"name": task.name, "split": task.split},
            "device": str(device),
            "n_parameters": count_weights(folder / "unlearned") if known else None,
            "has_retain": "control" in known,
            "notes": notes,
            "stages": _costs(folder, stages),
        },
    )


def _costs(folder: Path, stages: list[Built]) -> list[dict[str, Any]]:
    """What each stage cost; what this folder's earlier runs built themselves keeps its entry when found done."""
    earlier = read_json(folder / "run.json")["stages"] if (folder / "run.json").is_file() else []
    costs = {stage["name"]: stage for stage in earlier}
    for s in stages:
        if not (s.cached and s.name in costs):
            costs[s.name] = {"name": s.name, "seconds": s.seconds, "peak_rss_mb": s.peak_rss_mb, "cached": s.cached}
    return list(costs.values())


def _report(folder: Path, tracker: Any) -> None:
    from unlearn.report.page import write_report
    from unlearn.report.summary import print_summary

    with progress("writing the report", total=None):
        write_report(folder, tracker)
    print_summary(folder)
