"""What a scorer is: from a model and the probes of a task to tables, from which metrics are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from unlearn.data.posed import prompt_of
from unlearn.score.batching import map_kinds

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from unlearn.data.prompt import Encoded, PromptFormat
    from unlearn.data.task import ProbeSet, Question, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject
    from unlearn.runtime.explained import Explained

Progress = Callable[[int], object]
Wording = Literal["canonical", "paraphrased"]


class Scorer(Protocol):
    """A scorer: a small frozen dataclass; its YAML in conf/evaluate holds exactly its fields."""

    modality: ClassVar[str]
    """What kind of models it asks: "text", "image", or "any"."""
    version: ClassVar[int]
    """Raised when results change."""
    tables: ClassVar[tuple[str, ...]]
    """Names of the tables that it gives: no other scorer of a run may give one of that name."""
    along: ClassVar[bool]
    """Whether it is cheap enough to be asked again and again along a training, for the curve."""

    @property
    def reads(self) -> frozenset[str]:
        """Return what it is handed of the task, and what its tables are kept by."""
        ...

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task that lacks what it reads (UserError); asked before any model is loaded."""
        ...

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Return its tables of one model, by name.

        progress: called with the number of rows done since the last call. The model is given back as it was.
        """
        ...


@dataclass(frozen=True)
class Asked:
    """A probe with its place."""

    set: ProbeSet
    """Its probe set."""
    item: int
    """Its index there."""
    probe: Question
    """The probe."""
    question: str
    """The wording of the question that is put."""

    @property
    def prompt(self) -> PromptFormat | None:
        """Return how it is put; None: as the run puts everything."""
        return prompt_of(self.probe) or self.set.prompt

    @property
    def place(self) -> dict[str, object]:
        """Return the columns that every table has."""
        return {"probe": self.set.name, "aim": self.set.aim, "item": self.item, "cluster": self.probe.cluster}

    @property
    def candidates(self) -> list[tuple[str, int, str]]:
        """Return (kind, choice, text) of every candidate answer."""
        paraphrase = self.probe.paraphrased_answer
        return [
            ("answer", 0, self.probe.answer),
            *([("paraphrase", 0, paraphrase)] if paraphrase is not None else []),
            *[("perturbed", i, text) for i, text in enumerate(self.probe.perturbed_answers)],
        ]


def ask_all(task: Task, wording: Wording) -> list[Asked]:
    """Return every probe of the task in a wording; "paraphrased" falls back to the canonical one."""
    return [
        Asked(probe_set, i, probe, (wording == "paraphrased" and probe.paraphrased_question) or probe.question)
        for probe_set in task.probes
        for i, probe in enumerate(probe_set.probes)
    ]


def encode_answers(subject: Subject, rows: Sequence[tuple[Asked, str]]) -> list[Encoded]:
    """Return the ids of each question with an answer, put as its set has it (else as the subject likes it)."""
    return map_kinds(
        lambda prompt, some: prompt.encode_all(subject.processor, [(asked.question, text) for asked, text in some]),
        rows,
        lambda row: subject.puts(row[0].prompt),
    )


def encode_questions(subject: Subject, rows: Sequence[Asked]) -> list[list[int]]:
    """Return the ids of each question, up to where its answer begins, put as its set has it."""
    return map_kinds(
        lambda prompt, some: prompt.encode_prompts(subject.processor, [asked.question for asked in some]),
        rows,
        lambda asked: subject.puts(asked.prompt),
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Have the model in eval mode, and then as it was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def frame(rows: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    """Return rows as a table with those columns, also where there are none."""
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)
