"""A forget item: what is asked, and where it stands among all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unlearn.data.posed import posed
from unlearn.data.task import Question, Task

Split = Literal["across_cluster", "within_cluster"]


@dataclass(frozen=True)
class Item:
    """A forget probe, with its place among all of them: by it the answers of several models are paired."""

    index: int
    """Its place, counted from 0."""
    probe: Question
    """What is asked, how, and its answer."""

    @property
    def short_answer(self) -> str:
        """Return the bare fact where the dataset knows it, else the whole answer."""
        return self.probe.value or self.probe.answer


def forget_items(task: Task) -> tuple[Item, ...]:
    """Return all forget probes of a task, in order."""
    return tuple(Item(i, probe) for i, probe in enumerate(posed(task, "forget")))
