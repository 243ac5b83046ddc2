"""Other facts about the entity that a question is about, without the answer to it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unlearn.attacks.items import Item
from unlearn.attacks.setting.statements import entities, reveals, statement
from unlearn.attacks.setting.text import mentions
from unlearn.data.task import Question, Task
from unlearn.data.words import named, whole

if TYPE_CHECKING:
    from unlearn.attacks.base import AttackSetting


def names(text: str, entity: str) -> bool:
    """Return whether a text has the entity's name in it, or a part of it."""
    return bool(entity) and any(mentions(text, part) for part in _parts(entity))


def renamed(text: str, entity: str, name: str) -> str:
    """Return the text with another name in the place of the entity's, and of parts of it."""
    for part in _parts(entity):
        text = whole(part).sub(lambda _: name, text)
    return text


def _parts(entity: str) -> list[str]:
    """Return a name and those of its words by which the entity is known as well."""
    return [entity, *(word for word in entity.split() if len(word) > 3 and named(word) and word != entity)]


def renamed_probe(probe: Question, entity: str, name: str) -> Question:
    """Return the probe about an entity of another name."""
    texts = ("question", "answer", "paraphrased_question", "paraphrased_answer", "value")
    new = {part: text and renamed(text, entity, name) for part in texts for text in [getattr(probe, part)]}
    wrong = tuple(renamed(answer, entity, name) for answer in probe.perturbed_answers)
    return replace(probe, **new, perturbed_answers=wrong)


@dataclass(frozen=True)
class Related:
    """Items of one task, and what each is about."""

    items: tuple[Item, ...]
    """The items, each with an index of its own."""
    entities: Mapping[int, str]
    """By index, the entity that an item's question is about, where that can be told."""

    @classmethod
    def of(cls, items: Sequence[Item], task: Task) -> Related:
        """Return items of one task, each with an index of its own."""
        return cls(tuple(items), entities(items, {fact.prompt: fact.entity for fact in task.facts}))

    @classmethod
    def forgotten(cls, setting: AttackSetting) -> Related:
        """Return the forget items."""
        return cls.of((*setting.attacker_items, *setting.held_out_items), setting.task)

    @classmethod
    def kept(cls, setting: AttackSetting) -> Related:
        """Return the setting's retain probes, then the retain set's rows."""
        retain = setting.task.examples("retain") if "retain" in setting.task.sets else ()
        rows = [Question(e.questions[0], e.answers[0], cluster=e.cluster) for e in retain]
        return cls.of([Item(i, probe) for i, probe in enumerate((*setting.retain, *rows))], setting.task)

    def entity(self, item: Item) -> str:
        """Return what the question is about; "" where that cannot be told."""
        return self.entities.get(item.index, "")

    def others(self, item: Item) -> list[Item]:
        """Return other questions about the same entity that do not give the answer away, in order."""
        return [
            other
            for other in self.items
            if item.probe.cluster
            and other.probe.cluster == item.probe.cluster
            and self.entity(other) == self.entity(item)
            and other.probe.question != item.probe.question
            and not reveals(statement(other), item)
        ]

    def unrelated(self, item: Item) -> Iterator[Item]:
        """Yield questions about other entities that do not give the answer away, from an item's own place on."""
        start = random.Random(f"unrelated-{item.index}").randrange(len(self.items))
        for other in (*self.items[start:], *self.items[:start]):
            if other.probe.cluster != item.probe.cluster and not reveals(statement(other), item):
                yield other
