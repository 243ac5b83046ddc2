"""The attack stage: every attack alike on the original, the unlearned and the control model, then one report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from unlearn.attacks.base import Attack, AttackSetting, CrossModelAttack, Inapplicable, Outcome
from unlearn.attacks.setting.answer_metric import choose_answer_metric
from unlearn.attacks.setting.no_attack import NoAttack
from unlearn.attacks.setting.placebo import placebo
from unlearn.attacks.setting.split import Items, split_items
from unlearn.data.posed import posed
from unlearn.data.task import Role, Task, digest
from unlearn.leak.leak_row import NONE
from unlearn.leak.leak_table import leak_report
from unlearn.leak.record import AttackedRole, AttackRun, Record
from unlearn.models.subject import References, Subject
from unlearn.report.attacks_folder import ATTACKS
from unlearn.runtime.errors import UserError, plain_errors
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.resources import Meter
from unlearn.runtime.store import Built
from unlearn.runtime.time_limit import TimeUp, deadline
from unlearn.stages.attack_files import save_attacks
from unlearn.stages.check import check_component
from unlearn.stages.keys import Asked, component_key
from unlearn.stages.prepare import cache, has_control, run_setting
from unlearn.stages.subjects import load_subject

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unlearn.leak.variants import Baseline
    from unlearn.stages.experiment import Experiment


@dataclass(frozen=True)
class AttackedModel:
    """A model to attack. key: what identifies it, for the cache. base: see Subject."""

    role: Role
    path: str
    key: Mapping[str, Any]
    base: str | None = None


def check_attacks(experiment: Experiment, task: Task) -> None:
    """UserError where the task cannot be attacked so: asked before anything is trained."""
    setting = run_setting(experiment, task)
    for name, one in experiment.attack.items():
        check_component(f"attack.{name}", one, task, setting)
    items = _items(experiment, task)
    _baseline(experiment.leak.baseline, has_control(experiment, task), placebo(items.held_out_items, task) is not None)
    choose_answer_metric(task, experiment.leak.answer_metric)


def attack(
    experiment: Experiment, task: Task, models: Mapping[Role, AttackedModel], folder: Path, device: torch.device
) -> Built:
    """Attack the models and write what they gave, with the report, into the run folder's `attacks`.

    models: the original and the unlearned model and, where there is one, the control model. What was found on a model
    is kept in the cache by its weights, the attack and the data: ten methods share one attack of their references. An
    attack that fails is a row that says why. UserError where the task has too few items or no such control.
    """
    items = _items(experiment, task)
    fakes = placebo(items.held_out_items, task, experiment.seed)
    baseline = _baseline(experiment.leak.baseline, "control" in models, fakes is not None)
    setting = _setting(experiment, task, items)
    asked: dict[AttackedRole, tuple[AttackedModel, AttackSetting]] = {
        role: (models[role], setting) for role in ("original", "unlearned")
    }
    if baseline == "control":
        asked["control"] = models["control"], setting
    elif baseline == "placebo":
        assert fakes is not None
        asked["placebo"] = models["unlearned"], replace(setting, held_out_items=fakes)
    attacks: dict[str, Attack] = {NONE: NoAttack(), **experiment.attack}
    runs: dict[str, dict[AttackedRole, AttackRun]] = {name: {} for name in attacks}
    stages: list[Built] = []
    total = len(attacks) * len(asked)
    with Meter() as meter, progress("attacking", total=total) as advance:
        for role, (model, its_setting) in asked.items():
            loaded = _Loaded(experiment, model, models["original"], models.get("control"), device)
            for name, one in attacks.items():
                runs[name][role], built = _attempt(experiment, name, one, loaded, its_setting)
                stages += built
                advance(1)
            loaded.forget()
    records = [Record(name, one.threat, one.family, one.reference, runs[name]) for name, one in attacks.items()]
    clusters = [item.probe.cluster or str(item.index) for item in items.held_out_items]
    leaks = leak_report(records, clusters, baseline, experiment.seed, setting.answer_metric)
    leaks = replace(leaks, notes=(*items.notes, *leaks.notes))
    further = {"models": {role: one.path for role, one in models.items()}, "numbers": _across(attacks, runs)}
    save_attacks(experiment, folder, records, items, setting, leaks, further)
    made = [stage for stage in stages if not stage.cached]
    cached = not made and len(stages) == total
    seconds = sum(stage.seconds for stage in stages) if cached else meter.seconds
    return Built(ATTACKS, folder / ATTACKS, seconds, max((s.peak_rss_mb for s in made or stages), default=0.0), cached)


def _items(experiment: Experiment, task: Task) -> Items:
    settings = experiment.leak
    share, least = settings.attacker_share, settings.min_attacker_items
    return split_items(task, share, least, settings.split, settings.items, experiment.seed)


def _baseline(wanted: str, control: bool, invented: bool) -> Baseline:
    there: list[Baseline] = ["chance"]
    if invented:
        there.insert(0, "placebo")
    if control:
        there.insert(0, "control")
    if wanted == "auto":
        return there[0]
    if wanted not in there:
        why = "there is no control model" if wanted == "control" else "no placebo can be made of the questions"
        raise UserError(f"'leak.baseline' is '{wanted}', but {why} (possible: {', '.join(there)})")
    return wanted


def _setting(experiment: Experiment, task: Task, items: Items) -> AttackSetting:
    kept = posed(task, "retain")
    step = max(1, len(kept) // experiment.leak.utility) if experiment.leak.utility else 1
    return AttackSetting(
        task,
        items.attacker_items,
        items.held_out_items,
        kept[::step][: experiment.leak.utility],
        choose_answer_metric(task, experiment.leak.answer_metric),
        experiment.leak.seeds,
    )


class _Loaded:
    """A model that is loaded when the first attack needs it."""

    def __init__(
        self,
        experiment: Experiment,
        models: AttackedModel,
        original: AttackedModel,
        control: AttackedModel | None,
        device: torch.device,
    ) -> None:
        self.experiment, self.models, self.device = experiment, models, device
        self.original, self.control = original, control

    @cached_property
    def subject(self) -> Subject:
        return _load(self.experiment, self.models, self.device)

    @property
    def references(self) -> References:
        """The models beside it."""
        control = self.control
        return References(
            lambda: _load(self.experiment, self.original, self.device),
            lambda: _load(self.experiment, control, self.device) if control else None,
        )

    def forget(self) -> None:
        """Free its memory; the next attack loads it anew."""
        from accelerate.utils import release_memory

        release_memory(self.__dict__.pop("subject", None))


def _load(experiment: Experiment, model: AttackedModel, device: torch.device) -> Subject:
    from unlearn.models.loading import on_device

    subject = load_subject(experiment, model.path, model.role, "cpu")
    return replace(subject, module=on_device(subject.module, device), base=model.base)


def _attempt(
    experiment: Experiment, name: str, one: Attack, loaded: _Loaded, setting: AttackSetting
) -> tuple[AttackRun, list[Built]]:
    """Return what one attack finds on one model, from the cache or now; a failure is found, too."""

    def build(folder: Path) -> None:
        from unlearn.attacks.setting.effort import Effort

        subject, seen = loaded.subject, replace(setting, task=setting.task.only(one.reads))
        with Effort() as effort, deadline(None if name == NONE else experiment.leak.max_seconds):
            attacked = one.attack(subject, seen, loaded.references.only(one.reads))
        AttackRun(attacked, effort.seconds, effort.gflop).save(folder)

    control = dict(loaded.control.key) if loaded.control else None
    asked = Asked(dict(loaded.models.key), experiment.model.prompt)
    offered = {"reference": dict(loaded.original.key), "control": control}
    key = component_key(one, setting.task, asked, offered=offered) | {
        "role": loaded.models.role,
        "base": loaded.models.base,
        "items": digest([setting.attacker_items, setting.held_out_items]),
        "retain": digest(setting.retain),
        "answer_metric": setting.answer_metric,
        "seeds": setting.seeds,
        "columns": list(Outcome.__dataclass_fields__),
    }
    try:
        with plain_errors():
            built = cache(experiment).stage(f"attack-{name}", key, build)
            return AttackRun.load(built.folder), [built]
    except TimeUp:
        loaded.forget()  # whatever the attack was doing to the model, it was not put back
        return AttackRun.failed("skipped", f"not done in {experiment.leak.max_seconds:g} s (leak.max_seconds)"), []
    except Exception as error:
        if name == NONE:  # what cannot be asked cannot be attacked
            raise
        if isinstance(error, Inapplicable):
            return AttackRun.failed("skipped", str(error)), []
        loaded.forget()  # it may have broken off half way
        reason = shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
        notify(f"attack {name}: {reason}")
        return AttackRun.failed("error", reason), []  # one attack's failure must not cost the others


def _across(
    attacks: Mapping[str, Attack], runs: Mapping[str, Mapping[AttackedRole, AttackRun]]
) -> dict[str, dict[str, float]]:
    """Return numbers by attack that several models give together."""
    numbers = {}
    for name, one in attacks.items():
        if isinstance(one, CrossModelAttack) and all(run.status == "ok" for run in runs[name].values()):
            by_role = {role: run.result for role, run in runs[name].items()}
            try:
                across = one.across(by_role["original"], by_role["unlearned"], by_role.get("control"))
            except Exception as error:  # what the attacks found must not be lost for a number beside it
                notify(f"attack {name}: no numbers across models: {type(error).__name__}: {error}")
                continue
            numbers[name] = {key: value for key, value in across.items() if math.isfinite(value)}
    return numbers
