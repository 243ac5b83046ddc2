"""Greedy answers to every question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from unlearn.runtime.explained import Explained
from unlearn.score.base import Asked, Progress, Wording, ask_all, encode_questions, evaluating, frame
from unlearn.score.batching import map_kinds
from unlearn.score.table import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Generations:
    """Table `generations`: a row per probe of the sets that are generated from.

    It holds the greedy answer beside the reference answer, its paraphrase and bare value.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 2
    tables: ClassVar[tuple[str, ...]] = ("generations",)
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})
    along: ClassVar[bool] = False

    mask_pad: bool = False
    """True: hide tokens equal to the pad token inside the text, to reproduce OpenUnlearning's numbers."""
    question: Wording = "canonical"
    """canonical, or paraphrased: ask the other wording."""
    max_new_tokens: Annotated[int, Gt(0)] | None = None
    """Longest generated answer; null: as each set of probes has it."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Any task will do."""

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Return the table."""
        from unlearn.score.generate import Decoding, generate

        module, tokenizer, budget = subject.module, subject.processor, subject.token_budget

        def answer(limit: int, some: list[Asked]) -> list[str]:
            prompts = encode_questions(subject, some)
            return generate(module, tokenizer, prompts, limit, budget, Decoding(mask_pad=self.mask_pad), progress)

        asked = [a for a in ask_all(task, self.question) if a.set.generate]
        with evaluating(module):
            texts = map_kinds(answer, asked, lambda a: self.max_new_tokens or a.set.max_new_tokens)
        rows = [
            {
                **a.place,
                "question": a.question,
                "answer": a.probe.answer,
                "paraphrase": a.probe.paraphrased_answer,
                "value": a.probe.value,
                "generation": text,
            }
            for a, text in zip(asked, texts, strict=True)
        ]
        words = "What the model answers, greedily, beside what is right."
        return {"generations": Explained(frame(rows, GENERATIONS), "Generated answers", words)}
