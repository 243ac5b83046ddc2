"""Statements: an item's fact as a sentence, with the fact cut out of it, and whether a text gives it away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from unlearn.attacks.items import Item
from unlearn.attacks.setting.text import content_words, mentions
from unlearn.data.posed import prompt_of
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, Question
from unlearn.data.words import length, spaced, terms, whole

if TYPE_CHECKING:
    from unlearn.attacks.base import AttackSetting

BLANK = "____"
SHORT = 5  # words of an answer of which one name or number says all
OVERLAP = 0.5  # share of the content words of an answer from which on a text gives it away
PARAGRAPH = "\n\n"
_PARTICLES = "al|bin|da|de|del|den|der|di|ibn|la|le|of|van|von"
_CAPITALISED = r"\p{Lu}[\p{L}\p{M}\p{N}_-]*"
_RUN = regex.compile(rf"{_CAPITALISED}(?: (?:(?:{_PARTICLES}) )*{_CAPITALISED})+")


@dataclass(frozen=True)
class PromptContext:
    """What the attacker knows beside the question."""

    prompt: PromptFormat
    """How the model is asked where an item's probe set does not say."""
    items: tuple[Item, ...]
    """All forget items, the attacker's first."""
    entities: Mapping[int, str]
    """By item index, what the question is about, where that can be told."""
    retain: tuple[Example, ...] = ()
    """Solved questions about other entities."""
    wordings: Mapping[str, tuple[str, ...]] | None = None
    """By question, the wordings in which it was trained on."""

    @classmethod
    def of(cls, setting: AttackSetting, prompt: PromptFormat) -> PromptContext:
        """Return what an attacker of that setting knows."""
        items = (*setting.attacker_items, *setting.held_out_items)
        named = {fact.prompt: fact.entity for fact in setting.task.facts}
        forget, retain = (
            setting.task.examples(name) if name in setting.task.sets else () for name in ("forget", "retain")
        )
        wordings = {question: e.questions for e in forget for question in e.questions}
        return cls(prompt, items, entities(items, named), retain, wordings)

    def form(self, item: Item) -> PromptFormat:
        """Return how an item is put."""
        return prompt_of(item.probe) or self.prompt

    def siblings(self, item: Item) -> list[Item]:
        """Return other items of the same cluster that do not give this one's answer away, those after it first."""
        same = [o for o in self.items if o.probe.cluster and o.probe.cluster == item.probe.cluster]
        after = [o for o in same if o.index > item.index] + [o for o in same if o.index < item.index]
        return [o for o in after if not reveals(f"{o.probe.question} {o.probe.answer}", item)]


def is_completion(probe: Question) -> bool:
    """Return whether the question is the beginning of a text, and the answer how it goes on."""
    return probe.answer[:1].isspace()


def entities(items: Sequence[Item], named: Mapping[str, str]) -> dict[int, str]:
    """Return what each item's question is about, by item index.

    That is the entity that the dataset's facts name (`named`, by question), else the cluster's name, else the
    capitalised words that most questions of the cluster share; each only where the question has it.
    """
    shared: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        shared[item.probe.cluster].update(set(_names(item.probe.question)))
    found = {}
    for item in items:
        question, cluster = item.probe.question, item.probe.cluster
        common = [name for name, times in shared[cluster].most_common(1) if cluster and times > 1]
        wanted = [s for s in (named.get(question), cluster, *common) if s and s in question]
        if wanted:
            found[item.index] = wanted[0]
    return found


def _names(text: str) -> list[str]:
    """Return runs of two and more capitalised words, without a word that may be large only as the text's first."""
    found = []
    for match in _RUN.finditer(text):
        run = match[0] if match.start() else match[0].partition(" ")[2]
        found += [run] if " " in run else []
    return found


@dataclass(frozen=True)
class Gap:
    """A sentence that states the item's fact, cut around it."""

    before: str
    """What comes before the fact."""
    answer: str
    """The fact."""
    after: str
    """What comes after it."""
    wrong: tuple[str, ...] = ()
    """What wrong answers have in its place."""


def gaps(item: Item) -> Iterator[Gap]:
    """Yield the item's statements with their fact cut out.

    They are cut at the bare value where the dataset knows it, else at what the wrong answers have otherwise, where
    they are the same sentence.
    """
    probe = item.probe
    if is_completion(probe):
        yield Gap(probe.question, probe.answer.strip(), "", tuple(wrong.strip() for wrong in probe.perturbed_answers))
        return
    for text in filter(None, (probe.answer, probe.paraphrased_answer)):
        if probe.value and (match := whole(probe.value).search(text)):
            yield _gap(text, match.start(), len(text) - match.end(), probe.perturbed_answers)
    if not probe.value and probe.perturbed_answers:
        text = probe.paraphrased_answer or probe.answer
        space = " " if spaced(text) else ""
        words, *others = (one.split(space) if space else list(one) for one in (text, *probe.perturbed_answers))
        start = _agreed(words, others)
        end = _agreed(words[start:][::-1], [other[start:][::-1] for other in others])
        same, gone = start + end, len(words) - start - end
        if same >= 3 and 0 < gone <= 2 * same:
            parts = words[:start], words[start + gone :]
            head, tail = (len(space.join(part)) + len(space) * bool(part) for part in parts)
            yield _gap(text, head, tail, probe.perturbed_answers)


def _agreed(words: Sequence[str], others: Iterable[Sequence[str]]) -> int:
    """Return how many words all of them begin with."""
    columns = zip(words, *others, strict=False)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, (words, *others))))


def _gap(text: str, before: int, after: int, others: Sequence[str]) -> Gap:
    """Return text cut after `before` characters and before the last `after` ones; the others, where cut alike."""
    head, tail = text[:before], text[len(text) - after :]
    wrong = [o[before : len(o) - after] for o in others if o.startswith(head) and o.endswith(tail)]
    return Gap(head.rstrip(), text[before : len(text) - after], tail, tuple(filter(None, wrong)))


def reveals(text: str, item: Item) -> bool:
    """Return whether a text gives the item's answer away.

    It does if it has the answer in it, a name or number of a short answer, or at least half of the content words that
    the answer adds to the question.
    """
    said = terms(text)
    for answer in {item.short_answer, *(gap.answer for gap in gaps(item))}:
        added = content_words(answer, item.probe.question)
        found = added & said
        if mentions(text, answer) or (added and len(found) >= OVERLAP * len(added)):
            return True
        if length(answer) <= SHORT and any(word.isdigit() or _capital(word, answer) for word in found):
            return True
    return False


def _capital(word: str, answer: str) -> bool:
    """Return whether the answer has the word with a capital, as a name."""
    return word.title() != word and word.title() in answer


def statement(item: Item, answer: str | None = None) -> str:
    """Return the fact (or another answer) as a sentence; question and answer where the answer is a name."""
    probe = item.probe
    answer = probe.answer if answer is None else answer
    if is_completion(probe):
        return f"{probe.question.split(PARAGRAPH)[-1]} {answer.strip()}"
    return answer if len(answer.split()) > 2 else f"{probe.question} {answer}"
