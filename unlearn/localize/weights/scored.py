"""Hold what the localizers share that score every weight and select the highest scores over all tensors."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from unlearn.localize.base import Fraction, Localization
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Task
    from unlearn.localize.weights.gradients import Gradients
    from unlearn.localize.weights.threshold import Score, Selection
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Select floor(select * N) of the N weights in scope: those of the highest scores, wherever they are.

    Equal scores go by tensor and position.

    Raises ValueError where `scope` is no regular expression, or a fraction is asked for twice.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    select: Fraction = 0.8
    """Share of the scored weights that may change."""
    also: tuple[Fraction, ...] = ()
    """Further shares, whose masks are saved too. They come from the same scores (Localization.masks, by fraction)."""
    scope: str | None = None
    """A regular expression found in the names of the weights to score ("mlp|self_attn"); None: all. Weights of other
    tensors are not selected."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.scope or "")
        except re.error as error:
            raise ValueError(f"scope is '{self.scope}', which is no regular expression ({error})") from None
        refuse_repeats(self.select, self.also)

    @property
    def reads(self) -> frozenset[str]:
        """Return nothing: weights alone are looked at."""
        return frozenset()

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task: scores of weights alone read no data."""

    def in_scope(self, subject: Subject) -> list[str]:
        """Return the names of the tensors to score, in the model's order.

        UserError where there is none, or a fraction of them is less than one weight: before anything is computed.
        """
        from unlearn.localize.weights.threshold import how_many

        sizes = {name: p.numel() for name, p in subject.module.named_parameters() if p.is_floating_point()}
        found = [name for name in sizes if re.search(self.scope or "", name)]
        if not found:
            example = list(sizes)[-1]
            raise UserError(f"no weight's name has localize.scope '{self.scope}' in it; names are like '{example}'")
        how_many(sum(sizes[name] for name in found), (self.select, *self.also))
        return found

    def highest(self, subject: Subject, score: Score) -> list[Selection]:
        """Return what is selected by score: first for `select`, then for each of `also`."""
        from unlearn.localize.weights.threshold import select

        shapes = {name: tuple(p.shape) for name, p in subject.module.named_parameters()}
        return select(shapes, self.in_scope(subject), score, (self.select, *self.also))

    def located(self, selections: Sequence[Selection], **numbers: float) -> Localization:
        """Return the masks with their numbers; say so where weights had to be selected that no score speaks for."""
        from unlearn.runtime.progress import notify

        first, *rest = selections
        if first.zeros_selected:
            notify(
                f"localize: {first.zeros_selected} of the {first.mask.selected} selected weights have score 0 and "
                f"were taken by position: only {first.scored - first.zeros} of {first.scored} have another score"
            )
        counts: dict[str, float] = {"scored": first.scored, "selected": first.mask.selected}
        if first.threshold is not None:
            counts |= {"threshold": first.threshold}
            counts |= {"zero_scores": first.zeros, "zero_selected": first.zeros_selected}
        masks = {str(fraction): further.mask for fraction, further in zip(self.also, rest, strict=True)}
        return Localization(first.mask, {**counts, **numbers}, masks=masks)


@dataclass(frozen=True, kw_only=True)
class ByGradient(Scored):
    """Score by g_f, the mean over forget examples of the gradient of the example's token-mean nll.

    Each example counts once, with one of its wordings.
    """

    forget_loss: Literal["answer", "refusal"] = "answer"
    """Of the example's own "answer", or of a "refusal", for methods that train on refusals (po). The second is WAGLE's
    score for preference optimisation."""
    passes: Annotated[int, Gt(0)] = 1
    """How often to go over the rows, each time for another part of the weights. With 8 it takes an eighth of the memory
    for gradients."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the wordings and refusals drawn; None: the run's."""

    @property
    def reads(self) -> frozenset[str]:
        """Return the set whose answers are differentiated."""
        return frozenset({"refusal" if self.forget_loss == "refusal" else "forget"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without the rows that are differentiated; refusals are needed for forget_loss "refusal"."""
        if self.forget_loss == "refusal" and "refusal" not in task.sets:
            raise UserError(f"localize.forget_loss=refusal: dataset '{task.name}' has no refusals")
        task.require_examples(*sorted(self.reads))

    def forget_gradients(self, subject: Subject, task: Task, seed: int) -> Gradients:
        """Return g_f of the tensors in scope."""
        return self.gradients(subject, "forget", self.forget_rows(subject, task, seed))

    def forget_rows(self, subject: Subject, task: Task, seed: int) -> list[Encoded]:
        """Return one row for each forget example."""
        draw = self._generator("forget", seed)
        examples = task.examples("refusal" if self.forget_loss == "refusal" else "forget")
        pairs = [(draw.choice(e.questions), draw.choice(e.answers)) for e in examples]
        return subject.prompt.encode_all(subject.processor, pairs)

    def gradients(self, subject: Subject, what: str, rows: Sequence[Encoded], squares: bool = False) -> Gradients:
        """Return the mean gradient over rows, under a progress bar."""
        from unlearn.localize.weights.gradients import mean_gradients
        from unlearn.runtime.progress import progress

        with progress(f"localize: gradients of {what} rows", total=len(rows) * self.passes) as advance:
            names, budget = self.in_scope(subject), subject.token_budget
            return mean_gradients(subject.module, rows, names, budget, self.passes, squares, advance)

    def _generator(self, what: str, seed: int) -> random.Random:
        return random.Random(f"{what}-{seed if self.seed is None else self.seed}")


@dataclass(frozen=True, kw_only=True)
class ByTwoGradients(ByGradient):
    """Score by g_f and by g_r, the same mean over retain examples."""

    retain_samples: Annotated[int, Gt(0)] | None = None
    """How many retain examples, drawn without repetition; None: as many as there are forget examples."""

    @property
    def reads(self) -> frozenset[str]:
        """Return the same and the retain rows; the number of forget rows counts, too."""
        return super().reads | {"forget", "retain"}

    def retain_gradients(self, subject: Subject, task: Task, seed: int, squares: bool = False) -> Gradients:
        """Return g_r of the tensors in scope."""
        return self.gradients(subject, "retain", self.retain_rows(subject, task, seed), squares)

    def retain_rows(self, subject: Subject, task: Task, seed: int) -> list[Encoded]:
        """Return rows of drawn retain examples."""
        draw = self._generator("retain", seed)
        retain = task.examples("retain")
        count = min(self.retain_samples or len(task.rows("forget")), len(retain))
        examples = draw.sample(retain, count)
        pairs = [(draw.choice(e.questions), draw.choice(e.answers)) for e in examples]
        return subject.prompt.encode_all(subject.processor, pairs)


def refuse_repeats(select: float, also: Sequence[float]) -> None:
    """Raise a ValueError where a fraction is there twice: its masks would go by the same name."""
    fractions = [select, *also]
    for fraction in also:
        if fractions.count(fraction) > 1:
            raise ValueError(f"also has {fraction}, which is asked for already; name each share once")


def weights_of(subject: Subject) -> Score:
    """Return a function from a tensor's name to its weights, float32, on the model's device."""
    parameters = dict(subject.module.named_parameters())
    return lambda name: parameters[name].detach().float()
