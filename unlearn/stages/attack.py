"""The attack stage: every attack alike on the original, the unlearned and the never-learned model, then one report."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from unlearn import __version__
from unlearn.attacks.base import Attack, Brief, Comparing, Inapplicable, Part, Suspect
from unlearn.attacks.setting.knowledge import choose_knowledge
from unlearn.attacks.setting.no_attack import Plain
from unlearn.attacks.setting.placebo import placebo
from unlearn.attacks.setting.split import Items, split_items
from unlearn.data.task import Task, digest
from unlearn.leak.leak_table import NONE, Control, Leaks, leak_report
from unlearn.leak.record import Found, Record, Trial
from unlearn.leak.tables import save_leaks
from unlearn.models.pretrained import local_state
from unlearn.runtime.components import content
from unlearn.runtime.errors import UserError, plain_errors
from unlearn.runtime.progress import progress, say
from unlearn.runtime.resources import Meter
from unlearn.runtime.store import Built, write_json
from unlearn.runtime.time_limit import TimeUp, deadline
from unlearn.stages.experiment import Experiment
from unlearn.stages.prepare import cache, has_retain, versions

ATTACKS = "attacks"  # the folder of what was found
_NAMES_FILES = ("path", "text", "draft", "against")  # keys of attacks: hub ids, folders or files
_DATA = ("forget", "retain", "probes", "refusals", "facts", "fluency", "max_new_tokens")


@dataclass(frozen=True)
class Accused:
    """A model to attack: see Suspect. key: what identifies it, for the cache."""

    part: Part
    path: str
    key: Mapping[str, Any]
    wrapped: str | None = None


def check_attacks(experiment: Experiment, task: Task) -> None:
    """UserError where the task cannot be attacked so: asked before anything is trained."""
    for one in experiment.attack.values():
        one.check(task)
    items = _items(experiment, task)
    _control(experiment.leak.control, has_retain(experiment, task), placebo(items.scored, task) is not None)
    choose_knowledge(task, experiment.leak.knowledge)


def attack(experiment: Experiment, task: Task, accused: Mapping[Part, Accused], folder: Path, device: Any) -> Built:
    """Attack the models and write what was found, with the report, into the run folder's `attacks`.

    accused: the original and the unlearned model and, where there is one, the retain model. What was found on a model
    is kept in the cache by its weights, the attack and the data: ten methods share one attack of their references. An
    attack that fails is a row that says why. UserError where the task has too few items or no such control.
    """
    items = _items(experiment, task)
    fakes = placebo(items.scored, task, experiment.seed)
    control = _control(experiment.leak.control, "retain" in accused, fakes is not None)
    brief = _brief(experiment, task, items)
    trials: dict[Trial, tuple[Accused, Brief]] = {part: (accused[part], brief) for part in ("original", "unlearned")}
    if control == "retain":
        trials["retain"] = accused["retain"], brief
    elif control == "placebo":
        assert fakes is not None
        trials["placebo"] = accused["unlearned"], replace(brief, scored=fakes)
    attacks: dict[str, Attack] = {NONE: Plain(), **experiment.attack}
    found: dict[str, dict[Trial, Found]] = {name: {} for name in attacks}
    stages: list[Built] = []
    total = len(attacks) * len(trials)
    with Meter() as meter, progress("attacking", total=total) as advance:
        for trial, (model, its_brief) in trials.items():
            loaded = _Loaded(experiment, model, accused["original"], accused.get("retain"), device)
            for name, one in attacks.items():
                found[name][trial], built = _attempt(experiment, name, one, loaded, its_brief)
                stages += built
                advance(1)
            loaded.forget()
    records = [Record(name, one.threat, one.family, one.reference, found[name]) for name, one in attacks.items()]
    clusters = [item.probe.cluster or str(item.index) for item in items.scored]
    leaks = leak_report(records, clusters, control, experiment.seed, brief.knowledge)
    leaks = replace(leaks, notes=(*items.notes, *leaks.notes))
    models = {part: one.path for part, one in accused.items()}
    _save(experiment, folder, records, items, brief, leaks, {"models": models, "numbers": _across(attacks, found)})
    made = [stage for stage in stages if not stage.cached]
    cached = not made and len(stages) == total
    seconds = sum(stage.seconds for stage in stages) if cached else meter.seconds
    return Built(ATTACKS, folder / ATTACKS, seconds, max((s.peak_rss_mb for s in made or stages), default=0.0), cached)


def _items(experiment: Experiment, task: Task) -> Items:
    judging = experiment.leak
    return split_items(task, judging.taught, judging.least, judging.split, judging.items, experiment.seed)


def _control(wanted: str, retain: bool, invented: bool) -> Control:
    there: list[Control] = ["chance"]
    if invented:
        there.insert(0, "placebo")
    if retain:
        there.insert(0, "retain")
    if wanted == "auto":
        return there[0]
    if wanted not in there:
        why = "there is no retain model" if wanted == "retain" else "no placebo can be made of the questions"
        raise UserError(f"'leak.control' is '{wanted}', but {why} (possible: {', '.join(there)})")
    return wanted


def _brief(experiment: Experiment, task: Task, items: Items) -> Brief:
    kept = [probe for probe_set in task.probes if probe_set.role == "retain" for probe in probe_set.probes]
    step = max(1, len(kept) // experiment.leak.utility) if experiment.leak.utility else 1
    return Brief(
        task,
        items.taught,
        items.scored,
        tuple(kept[::step][: experiment.leak.utility]),
        choose_knowledge(task, experiment.leak.knowledge),
        experiment.leak.seeds,
    )


class _Loaded:
    """A model that is loaded when the first attack needs it."""

    def __init__(
        self, experiment: Experiment, accused: Accused, original: Accused, retain: Accused | None, device: Any
    ) -> None:
        self.experiment, self.accused, self.device = experiment, accused, device
        self.original, self.retain = original, retain

    @cached_property
    def suspect(self) -> Suspect:
        from unlearn.models.loading import load_on, load_tokenizer

        experiment, path = self.experiment, self.accused.path
        return Suspect(
            self.accused.part,
            load_on(path, self.device),
            load_tokenizer(path),
            experiment.model.prompt,
            experiment.evaluate.token_budget,
            partial(load_on, self.original.path, self.device),  # not a method: the model would never be freed
            self.accused.wrapped,
            retain=partial(load_on, self.retain.path, self.device) if self.retain else None,
        )

    def forget(self) -> None:
        """Free its memory; the next attack loads it anew."""
        from accelerate.utils import release_memory

        release_memory(self.__dict__.pop("suspect", None))


def _attempt(
    experiment: Experiment, name: str, one: Attack, loaded: _Loaded, brief: Brief
) -> tuple[Found, list[Built]]:
    """What one attack finds on one model, from the cache or now; a failure is found, too."""

    def build(folder: Path) -> None:
        from unlearn.attacks.setting.effort import Effort

        suspect = loaded.suspect
        with Effort() as effort, deadline(None if name == NONE else experiment.leak.max_seconds):
            attacked = one.attack(suspect, brief)
        Found(attacked, effort.seconds, effort.gflop).save(folder)

    key = {
        "attack": content(one),
        "files": _files(content(one)),
        "model": dict(loaded.accused.key),
        "part": loaded.accused.part,
        "wrapped": loaded.accused.wrapped,
        "original": dict(loaded.original.key),
        "never": dict(loaded.retain.key) if loaded.retain else None,
        "brief": digest([asdict(item) for part in (brief.taught, brief.scored) for item in part]),
        "retain": digest([asdict(probe) for probe in brief.retain]),
        "data": brief.task.fingerprint(*_DATA),
        "knowledge": brief.knowledge,
        "seeds": brief.seeds,
        "prompt": asdict(experiment.model.prompt),
        "versions": versions(),
    }
    try:
        with plain_errors():
            built = cache(experiment).stage(f"attack-{name}", key, build)
            return Found.load(built.folder), [built]
    except TimeUp:
        loaded.forget()  # whatever the attack was doing to the model, it was not put back
        return Found.failed("skipped", f"not done in {experiment.leak.max_seconds:g} s (leak.max_seconds)"), []
    except Exception as error:
        if name == NONE:  # what cannot be asked cannot be attacked
            raise
        if isinstance(error, Inapplicable):
            return Found.failed("skipped", str(error)), []
        loaded.forget()  # it may have broken off half way
        reason = shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
        say(f"attack {name}: {reason}")
        return Found.failed("error", reason), []  # one attack's failure must not cost the others


def _files(value: Any) -> list[Any]:
    """State of the local files that an attack's settings name; not of what it writes itself (`file`)."""
    if isinstance(value, Mapping):
        named = [local_state(value[key]) for key in _NAMES_FILES if isinstance(value.get(key), str)]
        return named + [state for item in value.values() for state in _files(item)]
    return [state for item in value for state in _files(item)] if isinstance(value, (list, tuple)) else []


def _revision() -> str | None:
    """The commit of the checkout that runs, None outside one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _across(attacks: Mapping[str, Attack], found: Mapping[str, Mapping[Trial, Found]]) -> dict[str, dict[str, float]]:
    """Numbers by attack that several models give together."""
    numbers = {}
    for name, one in attacks.items():
        if isinstance(one, Comparing) and all(of.status == "ok" for of in found[name].values()):
            by_trial = {trial: of.attacked for trial, of in found[name].items()}
            try:
                across = one.across(by_trial["original"], by_trial["unlearned"], by_trial.get("retain"))
            except Exception as error:  # what the attacks found must not be lost for a number beside it
                say(f"attack {name}: no numbers across models: {type(error).__name__}: {error}")
                continue
            numbers[name] = {key: value for key, value in across.items() if math.isfinite(value)}
    return numbers


def _save(
    experiment: Experiment,
    folder: Path,
    records: Sequence[Record],
    items: Items,
    brief: Brief,
    leaks: Leaks,
    further: Mapping[str, Any],
) -> None:
    partial = folder / f"{ATTACKS}.partial"
    with suppress(FileNotFoundError):
        shutil.rmtree(partial)
    for record in records:
        for trial, found in record.found.items():
            found.save(partial / record.name / trial)
    about = {
        "version": __version__,
        "revision": _revision(),
        "seed": experiment.seed,
        "knowledge": brief.knowledge,
        "seeds": list(brief.seeds),
        "attacks": {name: content(one) for name, one in experiment.attack.items()},
        "judging": content(experiment.leak),
        **further,
    }
    asked = [(side, item) for side in ("taught", "scored") for item in getattr(items, side)]
    rows = [
        {
            "side": side,
            "index": item.index,
            "cluster": item.probe.cluster,
            "question": item.probe.question,
            "gold": item.gold,
        }
        for side, item in asked
    ]
    write_json(partial / "items.json", rows)
    save_leaks(leaks, about, partial)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / ATTACKS)
    partial.rename(folder / ATTACKS)
