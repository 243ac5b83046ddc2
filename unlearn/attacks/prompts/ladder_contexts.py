"""The contexts of the ladder: what is put before an item's question at each level."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unlearn.attacks.items import Item
from unlearn.attacks.prompts.conversation import History
from unlearn.attacks.prompts.reasoning import answer_type
from unlearn.attacks.setting.answer_metric import options_of
from unlearn.attacks.setting.other_facts import Related, renamed, renamed_probe
from unlearn.attacks.setting.placebo import INVENTED
from unlearn.attacks.setting.statements import statement
from unlearn.attacks.setting.text import content_words
from unlearn.data.task import Question
from unlearn.data.theorems import NONCE

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

MOST_OPTIONS = 4  # of a hint


@dataclass(frozen=True)
class Asked:
    """An item as it is asked at one step of the ladder."""

    probe: Question
    """The question, with the context in it."""
    history: History = ()
    """Earlier turns before it."""


@dataclass(frozen=True)
class About:
    """An item and what the context may say about its entity."""

    item: Item
    """The item that is asked."""
    entity: str
    """What its question is about; "" where that cannot be told."""
    others: Sequence[Item]
    """Items about the same entity."""

    def axioms(self) -> Asked | None:
        """Return C1: statements, then the question; None where there are no others."""
        text = _statements(self.others)
        return Asked(with_text(self.item.probe, text)) if text else None

    def solved(self) -> Asked | None:
        """Return C2: solved questions as earlier turns; None where there are no others."""
        history = tuple((o.probe.question, o.probe.answer.strip()) for o in self.others)
        return Asked(self.item.probe, history) if history else None

    def alias(self) -> Asked | None:
        """Return C3: statements and the question under an invented name; None where the entity is not known."""
        if not (self.entity and self.others):
            return None
        words = INVENTED if self.entity[0].isupper() else NONCE
        name = words[self.item.index % len(words)]
        text = renamed(_statements(self.others), self.entity, name)
        return Asked(with_text(renamed_probe(self.item.probe, self.entity, name), text))


def with_text(probe: Question, text: str) -> Question:
    """Put a text before the question."""
    between = " " if text[-1:] in tuple(".?!\u3002\uff1f\uff01\u0964\u061f") else "\n\n"
    return replace(probe, question=f"{text}{between}{probe.question}")


def _statements(items: Sequence[Item]) -> str:
    return " ".join(statement(item).strip() for item in items)


def letter_hint(item: Item) -> Asked:
    """Return C4: what kind of answer it is, how it begins and how long it is.

    Where there is no bare value, the answer is what it adds to the question.
    """
    value = item.short_answer.strip()
    if not item.probe.value:
        added = content_words(value, item.probe.question)
        value = " ".join(word for word in value.split() if word.casefold().strip(".,;:!?\"'()") in added) or value
    hint = f"The answer is {answer_type(value)}, begins with {value[0]} and has {len(value)} characters."
    return Asked(with_text(item.probe, hint))


def options_hint(item: Item) -> Asked | None:
    """Return C4: the answer's statement among up to three wrong ones, in an order of the item's own."""
    probe = item.probe
    if not probe.perturbed_answers:
        return None
    offered = [*options_of(probe)[:MOST_OPTIONS]]
    random.Random(f"ununlearn-{item.index}").shuffle(offered)
    return Asked(with_text(probe, f"One of these is right: {' '.join(text.strip() for text in offered)}"))


def control_context(subject: Subject, like: Asked | None, item: Item, kept: Related) -> Asked | None:
    """Return Cx: other entities in the place of this one, in as many tokens; solved questions are whole."""
    if like is None:
        return None
    supply = kept.unrelated(item)
    if like.history:
        asked = Asked(item.probe)
        for other in supply:
            more = Asked(item.probe, (*asked.history, (other.probe.question, other.probe.answer.strip())))
            now, then = (abs(n_tokens(subject, one) - n_tokens(subject, like)) for one in (asked, more))
            if asked.history and then >= now:
                break
            asked = more
        return asked if asked.history else None
    tokenizer = subject.processor
    wanted = n_tokens(subject, like) - n_tokens(subject, Asked(item.probe))
    text, ids = "", []
    for other in supply:
        text = f"{text} {statement(other).strip()}".strip()
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= wanted:
            break
    return Asked(with_text(item.probe, str(tokenizer.decode(ids[:wanted])))) if ids else None


def n_tokens(subject: Subject, asked: Asked) -> int:
    """Return the number of tokens of a question and its earlier turns."""
    texts = [asked.probe.question, *(text for turn in asked.history for text in turn)]
    return sum(len(subject.processor(text, add_special_tokens=False)["input_ids"]) for text in texts)
