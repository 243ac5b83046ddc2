"""The stages of a run, in order: original and control models -> localize -> unlearn -> score -> attack -> report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.data.checks import check_overlap
from unlearn.runtime import distributed
from unlearn.runtime.progress import notify
from unlearn.runtime.store import Built, Store
from unlearn.stages.check import check_choices, check_component, check_family, check_scorers
from unlearn.stages.device import hardware
from unlearn.stages.localize import localize, mask_in
from unlearn.stages.prepare import ask, run_setting, trained
from unlearn.stages.references import references
from unlearn.stages.report import report, show_leaks
from unlearn.stages.run_folder import claimed, kept, record, run_folder
from unlearn.stages.score import evaluate_metrics, score_unlearned
from unlearn.stages.unlearn import UNLEARNED, check_method, unlearn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from unlearn.data.task import Role, Task
    from unlearn.report.tracking import Tracker
    from unlearn.stages.experiment import Experiment
    from unlearn.stages.references import Reference


def run(experiment: Experiment, config: dict[str, Any], choices: Mapping[str, str]) -> Path:
    """Run the experiment, or go on with it where its folder says it stopped; returns the run folder.

    config: the resolved configuration, kept in the folder. choices: the names chosen for each config group.
    """
    folder = run_folder(experiment, kept(config), choices)
    check_choices(experiment)
    task = experiment.dataset.load(experiment.seed, lambda pairs: ask(experiment, pairs, hardware(experiment)[0]))
    if experiment.overlap == "refuse":
        check_overlap(task)
    check_method(experiment, task)
    check_family(experiment, task)
    setting = run_setting(experiment, task)
    check_component("localize", experiment.localize, task, setting)
    check_scorers(experiment, task, setting)
    if experiment.attacks:
        from unlearn.stages.attack import check_attacks

        check_attacks(experiment, task)
    device, threads = hardware(experiment)
    experiment = experiment.for_device(device.type).with_prompt_of(task)
    if set(experiment.stages) - {"attack", "report"}:
        experiment.model.check_rows(task)
    with claimed(folder, kept(config)):
        tracker = experiment.tracker.start(folder.name, config, folder)
        try:
            if set(experiment.stages) - {"attack", "report"}:
                known, stages = _made(experiment, task, folder, device, threads, tracker)
                if distributed.is_main():
                    record(experiment, choices, task, folder, device, known, stages)
            attacked = False
            if experiment.attacks:
                from unlearn.stages.attack_run import attack_run

                attacked = attack_run(experiment, choices, task, folder, device)
            if distributed.is_main() and "report" in experiment.stages:
                report(folder, tracker)
            elif distributed.is_main() and attacked:
                show_leaks(folder, tracker)
            elif "unlearn" in experiment.stages:
                notify(f"unlearned model: {folder / UNLEARNED}")
        finally:
            tracker.finish()
    return folder


def _made(
    experiment: Experiment, task: Task, folder: Path, device: torch.device, threads: int, tracker: Tracker
) -> tuple[dict[Role, Reference], list[Built]]:
    """Make what comes before the attacks; return the models to compare with, and all finished stages."""
    store = Store(folder, hashed=False, notify=notify)
    if experiment.only_localizes:  # there is nothing to compare with
        original = trained(experiment, task, "original", device)
        return {}, [*original.stages, *localize(experiment, task, original, store, device, tracker)]
    known = references(experiment, task, device, threads)
    stages = [stage for reference in known.values() for stage in reference.stages]
    if "localize" in experiment.stages:
        stages += localize(experiment, task, known["original"], store, device, tracker)
    if "unlearn" in experiment.stages:
        mask = mask_in(folder) if experiment.localizes else None
        stages += unlearn(experiment, task, known, mask, store, device, tracker)
    if "score" in experiment.stages:
        scored = {role: (reference.path, reference.scores) for role, reference in known.items()}
        stages += score_unlearned(experiment, task, scored, store, device)
        evaluate_metrics(experiment, folder)
    return known, stages
