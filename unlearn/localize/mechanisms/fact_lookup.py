"""Fact lookup (FLU): find the MLPs that turn an entity into what the model knows of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from unlearn.localize.base import Fraction, Localization
from unlearn.localize.mechanisms.tables import explained_enrichment, explained_heads, explained_probes
from unlearn.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject
    from unlearn.runtime.explained import Explained

    Found = tuple[Sequence[int], dict[str, float], dict[str, Explained]]

NUMBERS = {  # what the numbers say
    "receiver": "Earliest layer whose heads speak to the answer: facts may be looked up before it.",
    "first_layer": "First layer of the lookup: the name alone tells the class.",
    "last_layer": "Last layer of the lookup: the full prompt tells it as well as it ever does.",
    "chance": "Accuracy of always naming the most frequent class.",
    "name_accuracy": "Accuracy of the best layer's probe on the name alone.",
    "full_accuracy": "Accuracy of the best layer's probe on the full prompt.",
}
Layers = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)]

# Layers that the authors trained, by the facts and the model (the last three: four times 16 facts, one after another).
_PUBLISHED: dict[str, dict[str, Sequence[int]]] = {
    "sports": {
        "gemma-7b": range(2, 8),
        "gemma-2-9b": range(2, 7),
        "llama-3-8b": range(1, 5),
        "pythia-2.8b": range(2, 7),
    },
    "counterfact-16": {
        "gemma-7b": (1, 3, 4, 6, 9, 17, 18, 19),
        "gemma-2-9b": (3, 4, 7, 8, 9),
        "llama-3-8b": (5, 6, 9, 13),
    },
    "counterfact-64": {
        "gemma-7b": (1, 3, 4, 6, 12),
        "gemma-2-9b": (3, 4, 5, 7, 8, 9, 10, 17),
        "llama-3-8b": (4, 5, 6, 7),
    },
    "counterfact-16-31": {
        "gemma-7b": (3, 6, 9, 18, 19),
        "gemma-2-9b": (4, 7, 8, 9, 17),
        "llama-3-8b": (2, 5, 6, 7, 9, 10),
    },
    "counterfact-32-47": {
        "gemma-7b": (0, 1, 3, 5, 7, 9, 11, 12, 13, 18, 19),
        "gemma-2-9b": (3, 5, 7, 8, 9, 10, 16),
        "llama-3-8b": (2, 4, 5, 6, 7),
    },
    "counterfact-48-63": {
        "gemma-7b": (0, 1, 3, 4, 6, 12, 19),
        "gemma-2-9b": (3, 4, 5, 7, 8, 9, 10, 15, 18, 21, 22),
        "llama-3-8b": (6, 7, 8),
    },
}
PRESETS = {
    f"{facts}/{model}": tuple(layers) for facts, models in _PUBLISHED.items() for model, layers in models.items()
}


@dataclass(frozen=True)
class FactLookup:
    """Select whole MLPs (gate, up, down) of the layers where facts are looked up (Guo et al. 2024, arXiv 2410.12949).

    Procedure "probe", for facts with class labels: a ridge probe for each layer reads the class off the residual stream
    at the last token, of the prompt and of the entity's name alone, fitted on 80% of the entities and tested on the
    others. Lookup begins at the first layer where the name's accuracy is chance + start * (its maximum - chance), and
    ends at the first where the prompt's is `end` of its maximum; chance is the share of the most frequent class. (The
    two constants fit the authors' choice on three models: a default, not a finding.)

    Procedure "path", for any facts with wrong answers: of all heads the `heads` whose output in the clean run speaks
    most to the answer directly when put into the run with a corrupt entity (to first order; see path_patching); the
    earliest layer among them receives. MLPs before that layer are taken whose change from corrupt to clean, added to
    what the receiver reads, brings back more than `threshold` of the answer.

    Tables: "probes" (layer, prompt "full" or "name", accuracy, control: with shuffled labels), "extraction" (layer,
    head, score), "enrichment" (layer, score). UserError where a layer is not in the model, or nothing is found.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"facts"})

    procedure: Literal["auto", "probe", "path"] = "auto"
    """How layers are found: "probe", "path", or "auto": probe where facts have class labels."""
    preset: str | None = None
    """The authors' layers: sports/gemma-7b, counterfact-64/llama-3-8b (a wrong name lists them all). No procedure runs.
    A line says so where the model has another name."""
    layers: Layers | None = None
    """These layers ([2, 3, 4]), whatever the facts, without a procedure."""
    probe_facts: Annotated[int, Gt(0)] = 500
    """Probe: how many facts at most, from the first."""
    start: Annotated[float, Ge(0), Le(1)] = 0.4
    """Probe: lookup begins where the name's accuracy has risen this far from chance to its maximum."""
    end: Fraction = 0.97
    """Probe: lookup ends where the prompt's accuracy has reached this share of its maximum."""
    penalty: Annotated[float, Gt(0)] | None = None
    """Probe: ridge penalty; None: for each layer that of least leave-one-out error."""
    path_facts: Annotated[int, Gt(0)] = 64
    """Path: how many facts at most, from the first."""
    heads: Annotated[int, Gt(0)] = 10
    """Path: of so many heads that write the answer (at most a tenth of all) the first layer receives."""
    receiver: Annotated[int, Gt(0)] | None = None
    """Path: the receiving layer, where it is known."""
    threshold: Annotated[float, Ge(0)] = 0.02
    """Path: share of the answer that an MLP brings back."""
    signed: bool = True
    """Path: False takes MLPs that hurt the answer too, by absolute value, as the authors did."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the probes' split and of corrupt subjects; None: the run's."""

    def __post_init__(self) -> None:
        if self.preset is not None and self.layers is not None:
            raise ValueError("give layers or preset, not both")
        if self.preset is not None and self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without labels for probes, or wrong answers for paths; any will do where layers are given."""
        if self._given:
            return
        if self._probes(task):
            labels = {fact.label for fact in task.facts[: self.probe_facts] if fact.label}
            if len(labels) < 2:
                raise UserError(
                    f"dataset '{task.name}' has facts of {len(labels)} classes, and procedure=probe tells at "
                    "least two apart (allowed with it: path)"
                )
        else:
            from unlearn.localize.mechanisms.facts import check_facts

            check_facts(task, foils=True)

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the MLPs of the layers found."""
        from unlearn.localize.places.parts import mlps, union

        units, given = mlps(subject.module), self._given
        if given and max(given) >= len(units):
            where = f"preset '{self.preset}'" if self.preset else "'layers'"
            raise UserError(f"{where} has layer {max(given)}, but the model's are 0 to {len(units) - 1}")
        if self.preset:
            _check_name(self.preset, getattr(subject.module.config, "_name_or_path", ""))
        find = self._probe if self._probes(task) else self._trace
        layers, numbers, tables = (given, {}, {}) if given else find(subject, task, seed)
        mask = union(subject.module, [units[layer] for layer in layers])
        numbers = {**numbers, "layers": len(set(layers)), "parameters": mask.selected}
        return Localization(mask, numbers, tables, words=NUMBERS)

    @property
    def _given(self) -> Sequence[int] | None:
        return PRESETS[self.preset] if self.preset else self.layers

    def _probes(self, task: Task) -> bool:
        return self.procedure == "probe" or (self.procedure == "auto" and any(fact.label for fact in task.facts))

    def _probe(self, subject: Subject, task: Task, seed: int) -> Found:
        import pandas as pd
        import torch

        from unlearn.localize.mechanisms.facts import encode_facts
        from unlearn.runtime.progress import progress
        from unlearn.score.linear_probe import PENALTIES, probe
        from unlearn.score.residuals import last_residuals

        facts = [fact for fact in task.facts[: self.probe_facts] if fact.label]
        classes = sorted({fact.label for fact in facts})
        labels = torch.tensor([classes.index(fact.label) for fact in facts])
        seed = seed if self.seed is None else self.seed
        train = _fitted_on([fact.entity for fact in facts], seed)
        penalties = (self.penalty,) if self.penalty else PENALTIES
        labelled = replace(task, facts=tuple(facts))
        prompts = {
            "full": [fact.ids for fact in encode_facts(subject, labelled)],
            "name": [tuple(subject.processor(fact.entity)["input_ids"]) for fact in facts],
        }
        tables = []
        for kind, ids in prompts.items():
            with progress(f"fact lookup: reading {kind} prompts", total=len(ids)) as advance:
                features = last_residuals(subject.module, ids, subject.token_budget, advance)
            probed = probe(features, labels, train, penalties, torch.Generator().manual_seed(seed))
            columns = {"accuracy": probed.test.numpy(), "control": probed.control.numpy()}
            tables.append(pd.DataFrame({"layer": range(len(features)), "prompt": kind, **columns}))
        full, name = (table["accuracy"].tolist() for table in tables)
        chance = torch.bincount(labels).max().item() / len(labels)
        if max(name) <= chance:
            raise UserError(
                f"the model does not know the facts' subjects: from no layer can their class be read better than by "
                f"chance (best accuracy {max(name):.2f}, chance {chance:.2f})"
            )
        layers = lookup_range(name, full, chance, self.start, self.end)
        numbers = {"first_layer": layers[0], "last_layer": layers[-1], "facts": len(facts), "chance": chance}
        numbers |= {"full_accuracy": max(full), "name_accuracy": max(name), "control": tables[1]["control"].max()}
        return layers, numbers, {"probes": explained_probes(pd.concat(tables, ignore_index=True), layers)}

    def _trace(self, subject: Subject, task: Task, seed: int) -> Found:
        import pandas as pd

        from unlearn.localize.mechanisms.facts import LEAST_GAP, corrupt_facts, encode_facts, signal
        from unlearn.localize.mechanisms.path_patching import direct_effects, enrichment
        from unlearn.models.layout import layout
        from unlearn.runtime.progress import progress

        model, parts, budget = subject.module, layout(subject.module), subject.token_budget
        facts = [fact for fact in encode_facts(subject, task, self.path_facts) if fact.foils]
        if not facts:
            raise UserError(f"dataset '{task.name}': no fact has a wrong answer whose first token is another")
        if self.receiver and self.receiver >= len(parts.blocks):
            raise UserError(f"'receiver' is {self.receiver}: the model's layers are 0 to {len(parts.blocks) - 1}")
        seed = seed if self.seed is None else self.seed
        pairs = list(zip(facts, corrupt_facts(facts, subject.processor, seed), strict=True))
        with progress("fact lookup: extraction heads", total=len(pairs)) as advance:
            direct = direct_effects(model, parts, pairs, budget, advance)
        if direct.gap <= 0:
            raise UserError(
                f"the model does not know the facts: destroying their subjects does not hurt their answers (mean logit "
                f"contrast {float(direct.clean.mean()):.3f}, {float(direct.corrupt.mean()):.3f} without the entity)"
            )
        signal(direct.gap, LEAST_GAP, "logit contrast")
        scores = direct.recovered.tolist()
        receiver = self.receiver or receiver_layer(scores, self.heads)
        with progress(f"fact lookup: MLPs before layer {receiver}", total=len(pairs)) as advance:
            enriched = enrichment(model, parts, pairs, receiver, budget, advance).recovered.tolist()
        strength = enriched if self.signed else [abs(score) for score in enriched]
        layers = [layer for layer, score in enumerate(strength) if score > self.threshold]
        if not layers:
            raise UserError(
                f"no MLP before layer {receiver} brings back more than threshold={self.threshold:g} of the "
                f"answers (most: {max(strength):.3f}, layer {strength.index(max(strength))})"
            )
        heads = [(layer, head, score) for layer, row in enumerate(scores) for head, score in enumerate(row)]
        tables = {
            "extraction": explained_heads(pd.DataFrame(heads, columns=["layer", "head", "score"])),
            "enrichment": explained_enrichment(pd.DataFrame({"layer": range(receiver), "score": enriched}), layers),
        }
        return layers, {"receiver": receiver, "gap": direct.gap, "facts": len(pairs)}, tables


def lookup_range(name: Sequence[float], full: Sequence[float], chance: float, start: float, end: float) -> range:
    """Return the layers of lookup, from accuracies by layer of probes on the name alone and on the full prompt."""
    risen = chance + start * (max(name) - chance)
    first = next(layer for layer, accuracy in enumerate(name) if accuracy >= risen)
    last = next(layer for layer, accuracy in enumerate(full) if accuracy >= end * max(full))
    return range(first, max(first, last) + 1)


def receiver_layer(scores: Sequence[Sequence[float]], heads: int) -> int:
    """Return the earliest layer among the `heads` highest absolute scores [layers][heads], at most a tenth of all.

    Layer 0 has no MLP before it and is passed over. UserError where there is no other.
    """
    ranked = sorted(((abs(s), layer) for layer, row in enumerate(scores) if layer for s in row), reverse=True)
    if not ranked:
        raise UserError("path patching needs a model of two layers or more")
    most = min(heads, max(1, sum(map(len, scores)) // 10))
    return min(layer for _, layer in ranked[:most])


def _check_name(preset: str, name: str) -> None:
    """Say so where the preset is not for the model of this name; Meta-Llama-3-8B and Llama-3.1-8B are other models."""
    from unlearn.runtime.progress import notify

    model = preset.rpartition("/")[2]
    if model not in name.lower():
        notify(f"preset '{preset}' holds the layers of {model}, and the model is '{name}': they may be others here")


def _fitted_on(entities: Sequence[str], seed: int) -> Tensor:
    """Return on which facts probes are fitted: those of 80% of the entities; they are tested on those of the others."""
    import torch

    distinct = sorted(set(entities))
    fitted = set(random.Random(seed).sample(distinct, min(round(0.8 * len(distinct)), len(distinct) - 1)))
    return torch.tensor([entity in fitted for entity in entities])
