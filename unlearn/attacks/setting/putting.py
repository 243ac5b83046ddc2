"""Put questions to a model, each as its probe set has it: all that are put alike at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from unlearn.data.posed import longest_answer, prompt_of
from unlearn.score.batching import map_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unlearn.data.prompt import Encoded, PromptFormat
    from unlearn.data.task import Question, Task
    from unlearn.models.subject import Subject

Found = TypeVar("Found")


def map_prompts(
    function: Callable[[PromptFormat, list[Question]], Sequence[Found]], subject: Subject, probes: Sequence[Question]
) -> list[Found]:
    """Return what `function` gives for all probes of each prompt format, in the probes' order."""
    return map_kinds(function, probes, lambda probe: subject.puts(prompt_of(probe)))


def encode_questions(subject: Subject, probes: Sequence[Question]) -> list[list[int]]:
    """Return the ids of each question, up to where its answer begins."""
    return map_prompts(
        lambda prompt, some: prompt.encode_prompts(subject.processor, [probe.question for probe in some]),
        subject,
        probes,
    )


def encode_answers(subject: Subject, rows: Sequence[tuple[Question, str]]) -> list[Encoded]:
    """Return the ids of each question with an answer."""
    return map_kinds(
        lambda prompt, some: prompt.encode_all(subject.processor, [(probe.question, text) for probe, text in some]),
        rows,
        lambda row: subject.puts(prompt_of(row[0])),
    )


def map_lengths(
    function: Callable[[int, list[tuple[Question, Sequence[int]]]], Sequence[Found]],
    task: Task,
    prompts: Sequence[tuple[Question, Sequence[int]]],
) -> list[Found]:
    """Return what `function` gives for all prompts (ids, beside their questions) whose answers may be as long."""
    return map_kinds(function, prompts, lambda row: longest_answer(row[0], task))
