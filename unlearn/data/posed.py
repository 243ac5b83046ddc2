"""Questions taken out of their probe sets, which are still put as their set has it."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Aim, Question, Task


@dataclass(frozen=True)
class Posed(Question):
    """A question that goes on to be put as its probe set has it, also in other words."""

    prompt: PromptFormat | None = None
    """How it is put; None: as the run puts everything."""
    max_new_tokens: int | None = None
    """How long a generated answer may get; None: as long as the longest of the task."""


def posed(task: Task, aim: Aim) -> tuple[Question, ...]:
    """Return the probes of all sets of an aim, in order.

    A set that is put as the run puts everything, with the longest answers of the task, gives its questions as they are.
    """
    return tuple(
        probe
        if probe_set.prompt is None and probe_set.max_new_tokens == task.max_new_tokens
        else Posed(**vars(probe), prompt=probe_set.prompt, max_new_tokens=probe_set.max_new_tokens)
        for probe_set in task.probes
        if probe_set.aim == aim
        for probe in probe_set.probes
    )


def limited(probe: Question, max_new_tokens: int) -> Question:
    """Return the question with another limit of its generated answer."""
    return Posed(**{**vars(probe), "max_new_tokens": max_new_tokens})


def prompt_of(probe: Question) -> PromptFormat | None:
    """Return how a question is put; None: as the run puts everything."""
    return probe.prompt if isinstance(probe, Posed) else None


def longest_answer(probe: Question, task: Task) -> int:
    """Return how many tokens a generated answer may have."""
    own = probe.max_new_tokens if isinstance(probe, Posed) else None
    return task.max_new_tokens if own is None else own
