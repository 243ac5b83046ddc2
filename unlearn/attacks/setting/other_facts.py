"""What else there is to say about the subject of a question, without its answer."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from unlearn.attacks.base import Brief
from unlearn.attacks.items import Item
from unlearn.attacks.setting.statements import reveals, statement, subjects
from unlearn.attacks.setting.text import mentions
from unlearn.data.task import Probe, Task


def names(text: str, subject: str) -> bool:
    """Whether a text has the subject's name in it, or a part of it."""
    return bool(subject) and any(mentions(text, part) for part in _parts(subject))


def renamed(text: str, subject: str, name: str) -> str:
    """The text with another name in the place of the subject's, and of parts of it."""
    for part in _parts(subject):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", lambda _: name, text)
    return text


def _parts(subject: str) -> list[str]:
    return [subject, *(word for word in subject.split() if len(word) > 3 and word[0].isupper() and word != subject)]


def renamed_probe(probe: Probe, subject: str, name: str) -> Probe:
    """The probe about a subject of another name."""
    texts = ("question", "answer", "paraphrased_question", "paraphrased_answer", "value")
    new = {part: text and renamed(text, subject, name) for part in texts for text in [getattr(probe, part)]}
    wrong = tuple(renamed(answer, subject, name) for answer in probe.perturbed_answers)
    return replace(probe, **new, perturbed_answers=wrong)


@dataclass(frozen=True)
class Related:
    """Items that are known to belong together. subjects: by index, what an item's question is about, where that can be
    told."""

    items: tuple[Item, ...]
    subjects: Mapping[int, str]

    @classmethod
    def of(cls, items: Sequence[Item], task: Task) -> Related:
        """Items of one task, each with an index of its own."""
        return cls(tuple(items), subjects(items, {fact.prompt: fact.subject for fact in task.facts}))

    @classmethod
    def forgotten(cls, brief: Brief) -> Related:
        """The forget items."""
        return cls.of((*brief.taught, *brief.scored), brief.task)

    @classmethod
    def kept(cls, brief: Brief) -> Related:
        """The brief's retain probes, then the retain set's rows."""
        rows = [Probe(e.questions[0], e.answers[0], cluster=e.cluster) for e in brief.task.retain]
        return cls.of([Item(i, probe) for i, probe in enumerate((*brief.retain, *rows))], brief.task)

    def subject(self, item: Item) -> str:
        """What the question is about; "" where that cannot be told."""
        return self.subjects.get(item.index, "")

    def others(self, item: Item) -> list[Item]:
        """Other questions about the same subject that do not give the answer away, in order."""
        return [
            other
            for other in self.items
            if item.probe.cluster
            and other.probe.cluster == item.probe.cluster
            and self.subject(other) == self.subject(item)
            and other.probe.question != item.probe.question
            and not reveals(statement(other), item)
        ]

    def unrelated(self, item: Item) -> Iterator[Item]:
        """Questions about other subjects that do not give the answer away, from a place on that is the item's own."""
        start = random.Random(f"unrelated-{item.index}").randrange(len(self.items))
        for other in (*self.items[start:], *self.items[:start]):
            if other.probe.cluster != item.probe.cluster and not reveals(statement(other), item):
                yield other
