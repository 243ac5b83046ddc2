"""`unlearn audit`: how far the metrics themselves can be trusted (OpenUnlearning, Dorna et al. 2025, arXiv 2506.12618).

Models with and without the knowledge are trained in several ways: a faithful metric tells the one from the other. Some
are unlearned, and then relearned and quantised: a robust metric does not say only then that the knowledge was there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le, Lt, MinLen

from unlearn.attacks.items import forget_items
from unlearn.attacks.setting.placebo import placebo
from unlearn.data.task import Example, Probe, Task, digest
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import Method, check_needs
from unlearn.metrics.evaluate import evaluate
from unlearn.metrics.metric_quality import Pool, Scored, Verdict, quality, read, reading
from unlearn.metrics.model_utility import ModelUtility
from unlearn.recipe import Recipe
from unlearn.report.audit import FILES, print_audit, save_audit
from unlearn.report.tracking import Tracker
from unlearn.runtime import distributed
from unlearn.runtime.components import build, cache_key
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.progress import notify, progress
from unlearn.runtime.store import MANIFEST, read_json
from unlearn.score.table import Scores
from unlearn.stages.config_keys import AUDIT_KEYS, AUDITED, KEYS
from unlearn.stages.device import hardware
from unlearn.stages.experiment import Experiment
from unlearn.stages.prepare import Learning, Model, ask, cache, has_control, learned
from unlearn.stages.references import references, score_key
from unlearn.stages.unlearn import unlearn

if TYPE_CHECKING:
    from omegaconf import DictConfig

KNOWING = ("full", "paraphrased", "biography")
IGNORANT = ("retain", "perturbed", "others")
FORMAT = "nf4"  # of quantisation, as in the paper
_STAGE = {"full": "original", "retain": "control"}  # what ordinary runs train, too


@dataclass(frozen=True)
class Pools:
    """Which models the metrics are tried on: 3 with and 3 without the knowledge for each seed, and each method on each.

    The data are those of the experiment's seed, with which the two models are trained that say what more knowledge
    looks like and that metrics compare with: that seed may not be among these.
    """

    methods: dict[str, Method]
    """What unlearns, by name."""
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(2**32)], ...], MinLen(1)] = (1, 2)
    """Of the models in the pools: weights, order and unlearning."""
    least_utility: Annotated[float, Ge(0), Le(1)] = 0.8
    """Share of the original's utility that an unlearned model must keep to count."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("methods is empty: nothing is unlearned")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={list(self.seeds)} has one twice")


def run(config: DictConfig, choices: Mapping[str, str], given: Iterable[str], plugins: frozenset[str]) -> Path:
    """Audit what the composed configuration says, and return the folder.

    choices: the names chosen for each group. given: the keys that the command sets. plugins: modules outside the
    package that may be imported for components. UserError where a key is not an audit's.
    """
    for key in given:
        if (root := key.partition(".")[0]) == "experiment" or (root in KEYS and root not in AUDIT_KEYS):
            hint = ": name methods as +method@audit.methods.NAME=NAME" if root == "method" else ""
            raise UserError(f"an audit has no '{root}'{hint}")
    from omegaconf import OmegaConf

    pools = build(config.audit, "audit", plugins)
    if not isinstance(pools, Pools):
        raise UserError(f"'audit' is {str(pools)[:80]!r}: set audit.seeds, audit.methods.NAME or audit.least_utility")
    whole = OmegaConf.masked_copy(config, [str(key) for key in config if key != "audit"])
    experiment: Experiment = build(whole, plugins=plugins)
    return audit(experiment, pools, choices)


def audit(experiment: Experiment, pools: Pools, choices: Mapping[str, str]) -> Path:
    """Train the pools (or find them in the cache), judge every metric, print the table and write it; the folder.

    UserError where the task has no model without the knowledge, or the experiment's own seed is among the pools'.
    """
    if distributed.world_size() > 1:
        raise UserError("an audit runs in one process: start it without accelerate launch")
    if experiment.seed in pools.seeds:
        raise UserError(f"'audit.seeds' has {experiment.seed}, the seed of the models to compare with: take others")
    folder = _folder(experiment, pools, choices)
    device, threads = hardware(experiment)
    task = experiment.dataset.load(experiment.seed, lambda pairs: ask(experiment, pairs, device))
    if not has_control(experiment, task):
        raise UserError(f"there is no model without the knowledge of dataset '{task.name}' to try metrics on")
    for method in pools.methods.values():
        check_needs(method, task)
    experiment = replace(experiment.for_device(device.type).with_prompt_of(task), localize=NoLocalization())
    compared = references(experiment, task, device, threads)
    bench = _Bench(experiment, task, Scores.load(compared["control"].scores), device)
    original, control = (bench.measure("reference", role, compared[role].scores) for role in ("original", "control"))
    added = variants(task, experiment.seed)
    scored: list[Scored] = []
    with progress("auditing", total=len(pools.seeds) * (len(added) + 1 + 3 * len(pools.methods))) as advance:
        for seed in pools.seeds:
            for member in bench.at(seed).members(added, pools.methods):
                scored.append(member)
                advance(1)
    verdicts = judged(scored, original, control, pools.least_utility)
    missing = [name for name in (*KNOWING, *IGNORANT) if name not in added]
    notes = [f"No '{name}' models: dataset '{task.name}' has nothing to make them of." for name in missing]
    if silent := [v.metric for v in verdicts if v.reading == "none"]:
        notes.append(f"Not judged, as undefined or the same for original and control model: {', '.join(silent)}.")
    verdicts = [v for v in verdicts if v.reading != "none"]
    about = {"choices": {group: choices.get(group, "") for group in ("dataset", "model")}, "seed": experiment.seed}
    save_audit(folder, about | {"pools": cache_key(pools)}, scored, verdicts, notes)
    print_audit(folder, about, scored, verdicts, notes)
    return folder


def variants(task: Task, seed: int) -> dict[str, tuple[Example, ...]]:
    """What each kind of model learns beside the retain set; kinds that the task has no data for are left out.

    With the knowledge: full, the forget set; paraphrased, the questions and answers of its probes in other words;
    biography, all that is said of one subject as one piece of plain text. Without: retain, nothing more; perturbed,
    wrong answers to the same questions; others, biographies of invented people.
    An example without a question is plain text.
    """
    probes = [probe for probe_set in task.probes if probe_set.aim == "forget" for probe in probe_set.probes]
    invented = placebo(forget_items(task), task, seed) or ()
    found = {
        "full": task.examples("forget"),
        "paraphrased": tuple(
            Example((p.paraphrased_question or p.question,), (p.paraphrased_answer or p.answer,))
            for p in probes
            if p.paraphrased_question or p.paraphrased_answer
        ),
        "biography": _biographies(probes),
        "retain": (),
        "perturbed": tuple(Example((p.question,), p.perturbed_answers[:1]) for p in probes if p.perturbed_answers),
        "others": _biographies([item.probe for item in invented]),
    }
    whole = {"paraphrased": len(probes), "perturbed": len(probes)}  # a part of the knowledge would be neither
    return {
        name: examples
        for name, examples in found.items()
        if name == "retain" or (examples and len(examples) == whole.get(name, len(examples)))
    }


def judged(scored: Sequence[Scored], original: Scored, control: Scored, least_utility: float) -> list[Verdict]:
    """The verdict on every metric, the best first. target, retain: the two models outside of the pools."""
    found = {(model.pool, model.name, model.seed): model for model in scored}
    knowing, ignorant, unlearned = (
        [model for model in scored if model.pool == pool] for pool in ("knowing", "ignorant", "unlearned")
    )
    useful = [not u.utility < least_utility * found["knowing", "full", u.seed].utility for u in unlearned]
    sides = {
        "knowing": knowing,
        "ignorant": ignorant,
        "unlearned": unlearned,
        "relearned": [found["relearned", u.name, u.seed] for u in unlearned],
        "quantised": [found["quantised", u.name, u.seed] for u in unlearned],
        "control": [found["ignorant", "retain", u.seed] for u in unlearned],
        "control_relearned": [found["retain relearned", "retain", u.seed] for u in unlearned],
    }
    verdicts = []
    for metric, known in original.values.items():
        values = {name: np.array([m.values.get(metric, math.nan) for m in side]) for name, side in sides.items()}
        how = reading(np.concatenate([*values.values()]), known, control.values.get(metric, math.nan))
        pool = Pool(**{name: read(side, how) for name, side in values.items()}, useful=np.array(useful, dtype=bool))
        verdicts.append(Verdict(metric, how, quality(pool)))
    return sorted(verdicts, key=lambda v: [_last(v.quality.overall), _last(v.quality.faithfulness)])


def _last(value: float) -> float:
    """What sorts the largest first and nan last."""
    return math.inf if math.isnan(value) else -value


@dataclass(frozen=True)
class _Bench:
    """Trains, changes and scores models, each once: everything is kept in the cache."""

    experiment: Experiment
    task: Task
    control: Scores
    device: Any

    def at(self, seed: int) -> _Bench:
        return replace(self, experiment=replace(self.experiment, seed=seed))

    def members(self, added: Mapping[str, tuple[Example, ...]], methods: Mapping[str, Method]) -> Iterator[Scored]:
        """All models of one seed."""
        models = {name: self.learn(name, examples) for name, examples in added.items()}
        for name, model in models.items():
            yield self.measure("knowing" if name in KNOWING else "ignorant", name, self.score(name, model))
        yield self.measure("retain relearned", "retain", self.score("retain", models["retain"], "relearned"))
        for name, method in methods.items():
            model = self.unlearn(method, models["full"])
            for change in ("", "relearned", "quantised"):
                yield self.measure(change or "unlearned", name, self.score(name, model, change))

    def learn(self, name: str, added: tuple[Example, ...]) -> Model:
        """A model trained from the family's start on the retain set and `added`, as original and control models are."""
        learning = Learning((*self.task.rows("retain"), *added))
        return learned(self.experiment, self.task, _STAGE.get(name, f"audit-{name}"), learning, self.device)

    def _fit(
        self, title: str, model: Any, tokenizer: Any, examples: Sequence[Example], recipe: Recipe, folder: Path
    ) -> list[dict[str, Any]]:
        """Train a model in place; the log, a row a step. An example without a question is plain text."""
        from unlearn.training import checkpoint
        from unlearn.training.supervised import plan_answers, train_answers

        seed = self.experiment.seed
        plan = plan_answers(examples, tokenizer, self.experiment.model.prompt, recipe, seed)
        with progress(f"{title}, seed {seed}", total=len(plan.steps)) as advance:
            log = train_answers(model, plan, recipe, folder, seed, advance=advance, notify=notify)
        checkpoint.discard(folder)
        return log.history

    def unlearn(self, method: Method, original: Model) -> Model:
        """The target after a method, as a run makes it."""
        train = replace(self.experiment.train, evaluate_at=(), evaluate_every=None)
        experiment = replace(self.experiment, method=method, train=train)
        known: Any = {"original": original}
        built = unlearn(experiment, self.task, known, None, cache(experiment), self.device, Tracker())
        return Model(str(built.folder), {"unlearned": read_json(built.folder / MANIFEST)["key"]}, (built,))

    def score(self, name: str, model: Model, change: str = "") -> Path:
        """The tables of a model, "relearned" or "quantised" before it is asked where `change` says so."""
        experiment = self.experiment
        key: dict[str, Any] = dict(model.key)
        if change == "relearned":
            key |= {"relearned": [cache_key(experiment.relearn), self.task.only({"forget"}).key(), experiment.seed]}
        elif change == "quantised":
            key |= {"quantised": FORMAT}

        def make(folder: Path) -> None:
            from unlearn.models.loading import load_model, load_tokenizer

            loaded: Any = load_model(model.path)
            loaded, tokenizer = loaded.to(self.device), load_tokenizer(model.path)
            if change == "relearned":
                rows = self.task.examples("forget")
                self._fit(f"relearning {name}", loaded, tokenizer, rows, experiment.relearn, folder)
            elif change == "quantised":
                _quantise(loaded)
            with progress(f"scoring {f'{name} {change}'.strip()}, seed {experiment.seed}") as advance:
                experiment.evaluate.score(loaded, tokenizer, experiment.model.prompt, self.task, advance).save(folder)

        stage = f"scores-{_STAGE.get(name, 'audit') if not change else 'audit'}"
        return cache(experiment).stage(stage, score_key(experiment, self.task, key), make).folder

    def measure(self, pool: str, name: str, tables: Path) -> Scored:
        """What the metrics say about forgetting: results on forget and transfer sets, and those that span sets."""
        scores = Scores.load(tables)
        about = {"", *scores.probe_names("forget", "transfer")}
        results = evaluate(self.experiment.metric, scores, self.control)
        (utility,) = ModelUtility()(scores, None)
        values = {result.key: result.value for result in results if result.probe in about}
        return Scored(pool, name, self.experiment.seed, values, utility.value)


def _folder(experiment: Experiment, pools: Pools, choices: Mapping[str, str]) -> Path:
    """Where the audit of that configuration is or will be. UserError where something else is there."""
    decides = {key: cache_key(getattr(experiment, key)) for key in AUDITED}
    name = "-".join(["audit", *(choices.get(group, "") for group in ("dataset", "model"))])
    folder = local(experiment.output or f"outputs/{name}-{digest([decides, cache_key(pools)])[:6]}")
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {*FILES}):
        raise UserError(f"{folder} is there and no audit: choose another output=")
    return folder


def _quantise(model: Any) -> None:
    """Round every linear map's weights to FORMAT, in place."""
    import torch

    from unlearn.attacks.weights.number_formats import quantised
    from unlearn.models.linear import linear_weights

    with torch.no_grad():
        for _, weight in linear_weights(model):
            weight.copy_(quantised(weight, FORMAT)[0])  # type: ignore[arg-type]


def _biographies(probes: Sequence[Probe]) -> tuple[Example, ...]:
    """The answers about each subject as one text; an answer without a subject is a text of its own."""
    texts: dict[str, list[str]] = {}
    for i, probe in enumerate(probes):
        texts.setdefault(probe.cluster or f"probe {i}", []).append(probe.answer)
    return tuple(Example(("",), (" ".join(answers),)) for answers in texts.values())
