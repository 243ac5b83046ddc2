"""Ablation of directions: what tells forget prompts apart inside the model is taken out, and the model asked again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.attacks.setting.answer_metric import ask, evaluate_attacked
from unlearn.attacks.setting.putting import encode_answers, encode_questions
from unlearn.attacks.setting.self_estimate import self_estimate
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from torch import Tensor

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

Contrast = Literal["retain", "text", "original", "component"]
HIT = 0.5  # an answer with K of at least this is right
START, TOKENS = 40, 1000  # the position from which long texts are read; most tokens that are read of all


@dataclass(frozen=True)
class Abliterate:
    """Remove one direction from what every decoder block gives, x <- x - (x . d) d, at all tokens.

    Arditi et al. 2024, arXiv 2406.11717; against unlearning Łucki et al. 2024, arXiv 2409.18025.

    Two variants of each contrast: "own", where every layer loses its own direction, and "single", where all lose that
    of one layer, the one that serves the attacker's items best. The table `abliterate` has the mean K of these items
    (attacker) by contrast and layer.
    """

    contrasts: Annotated[tuple[Contrast, ...], MinLen(1)] = ("retain",)
    """Retain, text (plain text), original, component (principal); the last two take the original.
    Directions of the first two are in the states at the last token of the attacker's forget prompts: retain, their mean
    minus that over retain prompts; text, minus that over the dataset's plain text (left out where it has none). The
    others are in the states at all tokens of the attacker's questions and answers, from the 41st on where they are that
    long, without outliers (see `typical`), at most 1000 tokens spread evenly, of the items that the original model
    answers (K >= 0.5) and this one does not (of all items, where there is no such item): original, their mean minus
    that of the original model at the same tokens; component, the first principal component of both models' states.
    They are a row of their own, "original"."""
    layers: Annotated[int, Ge(1)] = 8
    """Whose directions are tried alone, at most; evenly spaced."""
    prompts: Annotated[int, Gt(0)] = 64
    """Retain prompts or passages, at most."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "activations"
    reference: ClassVar[str] = "arXiv 2406.11717, 2409.18025"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "retain", "fluency", "reference"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where retain rows are wanted and missing. Without plain text, text contrasts are left out."""
        if "retain" in self.contrasts:
            task.require_examples("retain")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return two outcomes per contrast. Inapplicable where plain text alone is wanted and the dataset has none."""
        import pandas as pd

        from unlearn.attacks.internals.directions import ablated

        contrasts = [contrast for contrast in self.contrasts if contrast != "text" or "fluency" in setting.task.sets]
        if not contrasts:
            raise Inapplicable(f"dataset '{setting.task.name}' has no plain text to contrast forget prompts with")

        def on_own(directions: Tensor) -> float:
            with ablated(subject.module, directions):
                return self_estimate(subject, setting, setting.attacker_items)

        outcomes: list[Outcome] = []
        rows: list[dict[str, object]] = []
        for contrast in contrasts:
            informed = contrast in ("original", "component")
            found = self._directions(subject, setting, references, contrast)  # [L, d]
            depth = len(found)
            tried = np.unique(np.linspace(depth - 1, 0, min(self.layers, depth)).round().astype(int))
            served = {int(layer): on_own(found[layer].expand_as(found)) for layer in tried}
            best = max(served, key=lambda layer: served[layer])
            rows += [{"contrast": contrast, "layer": layer, "attacker": value} for layer, value in served.items()]
            for name, directions, own in (
                ("own", found, on_own(found)),
                ("single", found[best].expand_as(found), served[best]),
            ):
                with ablated(subject.module, directions):
                    asked = evaluate_attacked(subject, setting, f"{contrast}, {name}", self_estimate=own)
                outcomes.append(replace(asked, row="original" if informed else "", with_original=informed))
        return AttackResult(
            outcomes,
            f"{len(setting.attacker_items)} forget items, {self.prompts} retain prompts",
            f"{len(outcomes)} ablations",
            tables={"abliterate": _explained(pd.DataFrame(rows))},
        )

    def _directions(
        self, subject: Subject, setting: AttackSetting, references: References, contrast: Contrast
    ) -> Tensor:
        """Return directions [L, d] by a contrast."""
        from unlearn.attacks.internals.directions import component, difference
        from unlearn.score.residuals import last_residuals

        if contrast in ("original", "component"):
            return self._informed(
                subject, references.original(), setting, difference if contrast == "original" else component
            )

        def read(prompts: Sequence[Sequence[int]]) -> Tensor:
            return last_residuals(subject.module, prompts, subject.token_budget)

        forget = encode_questions(subject, [item.probe for item in setting.attacker_items])
        if contrast == "retain":
            kept = [example.questions[0] for example in setting.task.examples("retain")]
            return difference(read(forget), read(subject.prompt.encode_prompts(subject.processor, self._some(kept))))
        from unlearn.data.prompt import encode_passage

        passages = [passage.text for passage in setting.task.passages("fluency")]
        texts = [encode_passage(subject.processor, text).ids for text in self._some(passages)]
        return difference(read(forget), read(texts))

    @staticmethod
    def _informed(
        subject: Subject, original: Subject, setting: AttackSetting, contrast: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return directions [L, d] from this model's and the original's states at the same tokens."""
        import torch

        from unlearn.attacks.internals.directions import token_states, typical

        probes = [item.probe for item in setting.attacker_items]
        now, before = (ask(model, setting, probes).known for model in (subject, original))
        lost = [probe for probe, a, b in zip(probes, before, now, strict=True) if a >= HIT > b] or probes
        rows = [row.ids for row in encode_answers(subject, [(probe, probe.answer) for probe in lost])]
        places = _spread([range(START if len(row) > START else 0, len(row)) for row in rows])
        here, there = (token_states(s.module, rows, places, s.token_budget) for s in (subject, original))
        kept = [typical(a) & typical(b) for a, b in zip(here, there, strict=True)]
        return torch.cat([contrast(a[None, k], b[None, k]) for a, b, k in zip(here, there, kept, strict=True)])

    def _some(self, texts: Sequence[str]) -> list[str]:
        """Return at most `prompts` of them, evenly spaced."""
        step = -(-len(texts) // self.prompts)
        return list(texts[::step])


def _spread(places: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return of all places, by row, at most TOKENS, evenly spaced."""
    step, seen, found = -(-sum(map(len, places)) // TOKENS), 0, []
    for row in places:
        found.append([place for i, place in enumerate(row, seen) if i % step == 0])
        seen += len(row)
    return found


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "What the models show of the attacker's own items when the direction found at one layer is taken out of all. "
        "Where only the unlearned model rises, that direction held the knowledge back."
    )
    called = {"attacker": "K of the attacker's items"}
    chart = Chart("line", "layer", ("attacker",), panel="contrast", words=called)
    return Explained(table, "Ablated directions", words, chart)
