"""Make the models that an audit tries metrics on: with and without the knowledge, unlearned, and changed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unlearn.attacks.items import forget_items
from unlearn.attacks.setting.placebo import placebo
from unlearn.data.task import Example, Question, Role, Task
from unlearn.metrics.evaluate import evaluate
from unlearn.metrics.metric_quality import Scored
from unlearn.metrics.model_utility import ModelUtility
from unlearn.report.tracking import Tracker
from unlearn.runtime.components import cache_key
from unlearn.runtime.store import read_manifest
from unlearn.score.table import Tables, load_tables, probe_names
from unlearn.stages.experiment import Experiment
from unlearn.stages.prepare import Learning, Model, cache, fit, learned
from unlearn.stages.score import score_key, score_loaded
from unlearn.stages.unlearn import unlearn
from unlearn.training.adamw import AdamW

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from unlearn.methods.base import Method

KNOWING = ("full", "paraphrased", "biography")
IGNORANT = ("control", "perturbed", "others")
FORMAT = "nf4"  # of quantisation, as in the paper
_STAGE = {"full": "original", "control": "control"}  # what ordinary runs train, too


def variants(task: Task, seed: int) -> dict[str, tuple[Example, ...]]:
    """Return what each kind of model learns beside the retain set; kinds that the task has no data for are left out.

    With the knowledge: full, the forget set; paraphrased, the questions and answers of its probes in other words;
    biography, all that is said of one subject as one piece of plain text. Without: control, nothing more; perturbed,
    wrong answers to the same questions; others, biographies of invented people. An example without a question is plain
    text.
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
        "control": (),
        "perturbed": tuple(Example((p.question,), p.perturbed_answers[:1]) for p in probes if p.perturbed_answers),
        "others": _biographies([item.probe for item in invented]),
    }
    whole = {"paraphrased": len(probes), "perturbed": len(probes)}  # a part of the knowledge would be neither
    return {
        name: examples
        for name, examples in found.items()
        if name == "control" or (examples and len(examples) == whole.get(name, len(examples)))
    }


@dataclass(frozen=True)
class Bench:
    """Train, change and score models, each once: everything is kept in the cache."""

    experiment: Experiment
    task: Task
    references: Mapping[Role, Tables]
    device: torch.device

    def at(self, seed: int) -> Bench:
        """Return the same with another seed."""
        return replace(self, experiment=replace(self.experiment, seed=seed))

    def members(self, added: Mapping[str, tuple[Example, ...]], methods: Mapping[str, Method]) -> Iterator[Scored]:
        """Yield all models of one seed."""
        models = {name: self.learn(name, examples) for name, examples in added.items()}
        for name, model in models.items():
            yield self.measure("knowing" if name in KNOWING else "ignorant", name, self.score(name, model))
        yield self.measure("control relearned", "control", self.score("control", models["control"], "relearned"))
        for name, method in methods.items():
            model = self.unlearn(method, models["full"])
            for change in ("", "relearned", "quantised"):
                yield self.measure(change or "unlearned", name, self.score(name, model, change))

    def learn(self, name: str, added: tuple[Example, ...]) -> Model:
        """Return a model trained from the family's start on the retain set and `added`, as original and control are."""
        learning = Learning((*self.task.rows("retain"), *added))
        return learned(self.experiment, self.task, _STAGE.get(name, f"audit-{name}"), learning, self.device)

    def unlearn(self, method: Method, original: Model) -> Model:
        """Return the original model after a method, as a run makes it."""
        train = replace(self.experiment.train, evaluate_at=(), evaluate_every=None)
        experiment = replace(self.experiment, method=method, train=train)
        known: Any = {"original": original}
        made = unlearn(experiment, self.task, known, None, cache(experiment), self.device, Tracker())
        last = made[-1].folder
        return Model(str(last), {"unlearned": read_manifest(last).key}, tuple(made))

    def score(self, name: str, model: Model, change: str = "") -> Path:
        """Return the tables of a model, "relearned" or "quantised" before it is asked where `change` says so."""
        experiment = self.experiment
        key: dict[str, Any] = dict(model.key)
        if change == "relearned":
            key |= {"relearned": [cache_key(experiment.relearn), self.task.only({"forget"}).key(), experiment.seed]}
        elif change == "quantised":
            key |= {"quantised": FORMAT}

        def make(folder: Path) -> None:
            from unlearn.models.loading import load_model, load_tokenizer
            from unlearn.training import checkpoint

            loaded: Any = load_model(model.path)
            loaded, tokenizer = loaded.to(self.device), load_tokenizer(model.path)
            if change == "relearned":
                learning = Learning(self.task.rows("forget"), recipe=experiment.relearn, update=AdamW())
                title = f"relearning {name}, seed {experiment.seed}"
                fit(experiment, loaded, tokenizer, learning, title, folder)
                checkpoint.discard(folder)
            elif change == "quantised":
                _quantise(loaded)
            title = f"scoring {f'{name} {change}'.strip()}, seed {experiment.seed}"
            score_loaded(experiment, self.task, loaded, tokenizer, title, folder)

        stage = f"scores-{_STAGE.get(name, 'audit') if not change else 'audit'}"
        return cache(experiment).stage(stage, score_key(experiment, self.task, key), make).folder

    def measure(self, pool: str, name: str, tables: Path) -> Scored:
        """Return what metrics say about forgetting: results on forget and transfer sets, and those that span sets."""
        scores = load_tables(tables)
        about = {"", *probe_names(scores, "forget", "transfer")}
        results = evaluate(self.experiment.metric, scores, self.references)
        (utility,) = ModelUtility()(scores, {})
        values = {result.key: result.value for result in results if result.probe in about}
        return Scored(pool, name, self.experiment.seed, values, utility.value)


def _quantise(model: Any) -> None:
    """Round every linear map's weights to FORMAT, in place."""
    import torch

    from unlearn.attacks.weights.number_formats import quantised
    from unlearn.models.linear import linear_weights

    with torch.no_grad():
        for _, weight in linear_weights(model):
            weight.copy_(quantised(weight, FORMAT)[0])  # type: ignore[arg-type]


def _biographies(probes: Sequence[Question]) -> tuple[Example, ...]:
    """Return the answers about each subject as one text; an answer without a subject is a text of its own."""
    texts: dict[str, list[str]] = {}
    for i, probe in enumerate(probes):
        texts.setdefault(probe.cluster or f"probe {i}", []).append(probe.answer)
    return tuple(Example(("",), (" ".join(answers),)) for answers in texts.values())
