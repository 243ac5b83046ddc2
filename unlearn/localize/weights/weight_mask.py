"""Learn weight masks: the weights that training removes first, when all it can do is remove weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from unlearn.localize.base import Fraction, Localization, Localizer
from unlearn.localize.places.ffn import FFN
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from torch import Tensor

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Example, Task
    from unlearn.localize.weights.removal_training import Term
    from unlearn.models.base import RunSetting
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject

NUMBERS = {  # what the numbers say
    "candidates": "Weights that could have been selected.",
    "moved": "Share of them that training has shrunk.",
    "gone": "Share of them that training has brought to 0.",
    "gone_selected": "Share of the selected weights that training has brought to 0.",
    "forget": "Probability of the forget set's answers before anything is removed.",
    "retain": "Probability of the retain set's answers before anything is removed.",
    "injected": "Probability of the injected answers before anything is removed.",
    "forget_removed": "Probability of the forget set's answers with the selected weights set to 0.",
    "retain_removed": "Probability of the retain set's answers with the selected weights set to 0.",
    "injected_removed": "Probability of the injected answers with the selected weights set to 0.",
}
STEPS = 3  # points of the removal curve beside 0


@dataclass(frozen=True)
class WeightMask:
    """Select the weights that training shrinks, as in the weight-masking experiment of Mechanistic Unlearning.

    Guo et al. 2024, arXiv 2410.12949. The weights that `within` selects are trained with SGD on
        w_f * L_forget + NLL(retain) + NLL(fluency text, where the task has some) + beta * sum |w|, each clamped between
        0 and its original after every update; beta makes the last term `l1` at the start. L_forget is the NLL of the
        answers that editing puts in the place of the true ones (objective "inject", w_f inject_weight), or the mean
        over answer tokens of -log(1 - p) (objective "unlearn", w_f unlearn_weight). A weight's mask value is weight /
        original in [0, 1]; the lowest of the values below 1 are selected. Of weights at 0 those are more important that
        reached it in an earlier update, and then the larger originals.

    Numbers: probability of forget, retain (and injected) answers in the original model and with the selected weights
    set to 0 ("forget_removed"), geometric mean over an answer's tokens; candidates, and the shares of them that moved
    and that are at 0 ("gone"), and the share of the selected weights that is ("gone_selected"; where it is 1, the mask
    goes by when weights reached 0). Table "removal": the probabilities with 0, a third, two thirds and all of the
    selected weights removed, in the same order. UserError where training diverges or moves nothing.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    within: Localizer = field(default_factory=FFN)
    """Where to look: the weights that another localizer selects, localize@localize.within=NAME."""
    select: Fraction = 0.05
    """Share of the weights of `within` that is selected. Fewer, where fewer have moved."""
    objective: Literal["auto", "inject", "unlearn"] = "auto"
    """Whether to train towards injected answers ("inject") or away from true ones ("unlearn"). "auto" injects where the
    task says what."""
    inject_weight: Annotated[float, Gt(0)] = 0.5
    """Of the forget term, when injecting."""
    unlearn_weight: Annotated[float, Gt(0)] = 0.2
    """Of the forget term, when unlearning."""
    l1: Annotated[float, Ge(0)] = 1.5
    """The L1 penalty on the weights at the start."""
    updates: Annotated[int, Gt(0), Lt(2**15)] = 50
    """How many updates the weights get."""
    batch: Annotated[int, Gt(0)] = 8
    """Rows of each term in an update."""
    lr: Annotated[float, Gt(0)] = 0.1
    """Of SGD, down to 0 along a cosine."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Of SGD."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Of SGD."""
    clip: Annotated[float, Gt(0)] = 1.0
    """Largest norm of the gradient."""
    evaluation_rows: Annotated[int, Gt(0)] = 100
    """Forget and retain rows that are asked about with the weights removed."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the order of rows; None: the run's."""

    @property
    def reads(self) -> frozenset[str]:
        """Return the sets that it trains on or asks about, and what `within` reads."""
        return self.within.reads | {"forget", "retain", "injected", "fluency"}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Ask `within`, and refuse a task without rows or without injected answers where they are asked for."""
        self.within.check(task.only(self.within.reads), setting)
        task.require_examples("forget", "retain")
        if self.objective == "inject" and "injected" not in task.sets:
            raise UserError(
                f"'objective' is 'inject', but dataset '{task.name}' has no answers to inject "
                "(allowed with it: 'unlearn', 'auto')"
            )

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Shrink the weights, rank them by what is left of them, and put them back."""
        import random

        from unlearn.localize.weights.removal_training import Settings, kept, rank, removed, shrink
        from unlearn.runtime.progress import notify, progress

        model, own_seed = subject.module, seed if self.seed is None else self.seed
        within = self.within.localize(subject, task.only(self.within.reads), seed).mask
        rates = self.lr, self.momentum, self.weight_decay, self.clip, self.l1
        settings = Settings(self.updates, self.batch, *rates, subject.token_budget)
        with kept(model, within) as originals, progress("learning the weight mask", total=self.updates) as advance:
            rng, terms = random.Random(own_seed), self._terms(subject, task)
            ages = shrink(model, within, originals, terms, settings, rng, advance)
            scores = removed(dict(model.named_parameters()), originals)
            rank(scores, ages, originals)
        moved = sum(int(score.count_nonzero()) for score in scores.values())
        gone = sum(int(age.count_nonzero()) for age in ages.values())
        if not moved:
            raise UserError("no weight has moved towards 0: raise lr or updates")
        masks = _masks(within, scores, min(int(self.select * within.selected), moved))
        if gone > masks[-1].selected:
            notify(f"weight mask: {gone} weights have reached 0, of which the first {masks[-1].selected} are selected")
        curve = self._removal(subject, task, masks)

        import pandas as pd

        probabilities = [name for name in curve[0] if name not in ("selected", "fraction")]
        numbers = {
            **{name: curve[0][name] for name in probabilities},
            **{f"{name}_removed": curve[-1][name] for name in probabilities},
            "candidates": within.selected,
            "moved": moved / within.selected,
            "gone": gone / within.selected,
            "gone_selected": min(gone / masks[-1].selected, 1.0),
        }
        tables = {"removal": _explained(pd.DataFrame(curve), probabilities)}
        return Localization(masks[-1], numbers, tables, {"within": within}, NUMBERS)

    def _terms(self, subject: Subject, task: Task) -> list[Term]:
        from unlearn.data.prompt import encode_passage
        from unlearn.localize.weights.removal_training import Term, nll, unlikelihood

        if self.objective == "inject" or (self.objective == "auto" and "injected" in task.sets):
            terms = [Term(_answered(subject, task.examples("injected")), self.inject_weight, nll)]
        else:
            terms = [Term(_answered(subject, task.examples("forget")), self.unlearn_weight, unlikelihood)]
        terms.append(Term(_answered(subject, task.examples("retain")), 1.0, nll))
        if "fluency" in task.sets:
            texts = [encode_passage(subject.processor, passage.text) for passage in task.passages("fluency")]
            terms.append(Term(texts, 1.0, nll))
        return terms

    def _removal(self, subject: Subject, task: Task, masks: Sequence[Mask]) -> list[dict[str, float]]:
        """Return probabilities with no weight at 0, then with those of each mask, which holds all of the one before."""
        import torch

        from unlearn.localize.weights.removal_training import kept, probability

        most = self.evaluation_rows
        asked = [name for name in ("forget", "retain", "injected") if name in task.sets]
        rows = {name: _answered(subject, task.examples(name)[:most]) for name in asked}

        def point(selected: int) -> dict[str, float]:
            probabilities = {n: probability(subject.module, r, subject.token_budget) for n, r in rows.items()}
            return {"selected": selected, "fraction": selected / masks[-1].total, **probabilities}

        curve = [point(0)]
        with kept(subject.module, masks[-1]) as originals:
            for mask in masks:
                with torch.no_grad():
                    for name, parameter in subject.module.named_parameters():
                        if name in originals:
                            parameter.masked_fill_(mask.bits(name, parameter.device), 0.0)
                curve.append(point(mask.selected))
        return curve


def _masks(within: Mask, scores: dict[str, Tensor], most: int) -> list[Mask]:
    """Return the mask of the `most` highest scores, after masks of ever larger shares of them."""
    from unlearn.localize.weights.threshold import select

    counts = sorted({max(1, most * i // STEPS) for i in range(1, STEPS + 1)})
    scored = sum(score.numel() for score in scores.values())
    fractions = [min((count + 0.5) / scored, 1.0) for count in counts]  # the half, so that rounding loses none
    return [selection.mask for selection in select(within.shapes, list(scores), scores.__getitem__, fractions)]


def _answered(subject: Subject, examples: Sequence[Example]) -> list[Encoded]:
    return subject.prompt.encode_all(subject.processor, [(e.questions[0], e.answers[0]) for e in examples])


def _explained(table: pd.DataFrame, sets: Sequence[str]) -> Explained:
    words = (
        "What the model still says as more and more of the selected weights are set to 0. A good mask takes the "
        "forget set away and leaves the retain set."
    )
    called = {"fraction": "share of all weights set to 0", "y": "probability of the answers"}
    chart = Chart("line", "fraction", tuple(sets), joined=True, words=called)
    return Explained(table, "Localization: removing the selected weights", words, chart)
