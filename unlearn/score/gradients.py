"""Gradient norms of forget and holdout rows, a backward pass each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.runtime.explained import Explained
from unlearn.score.base import Progress, Wording, ask_all, encode_answers, evaluating, frame
from unlearn.score.table import GRADIENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

AIMS = ("forget", "holdout")


@dataclass(frozen=True)
class Gradients:
    """Table `gradients`: a row per probe of the forget and holdout sets, with the norm of its gradient."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[str, ...]] = ("gradients",)
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    along: ClassVar[bool] = False

    mask_pad: bool = False
    """True: hide tokens equal to the pad token inside the text, to reproduce OpenUnlearning's numbers."""
    question: Wording = "canonical"
    """canonical, or paraphrased: ask the other wording."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Return the table."""
        from unlearn.score.generate import pad_id
        from unlearn.score.gradient import gradient_norms

        tokenizer = subject.processor
        asked = [a for a in ask_all(task, self.question) if a.set.aim in AIMS]
        encoded = encode_answers(subject, [(a, a.probe.answer) for a in asked])
        pad, eos = pad_id(tokenizer), tokenizer.eos_token_id
        with evaluating(subject.module):
            norms = gradient_norms(subject.module, encoded, pad, eos, self.mask_pad, progress=progress)
        rows = [{**a.place, "gradnorm": norm} for a, norm in zip(asked, norms, strict=True)]
        words = "How strongly each row would pull at the weights if it were trained on."
        return {"gradients": Explained(frame(rows, GRADIENTS), "Gradient norms", words)}
