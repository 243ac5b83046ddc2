"""Built-in fictitious authors: a TOFU-like task, generated from a seed, with nothing to download."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from annotated_types import Ge, Le

from unlearn.data.authors_tables import ATTRIBUTES, CAPITAL, CAPITALS, FIRST_NAMES, LAST_NAMES, WORKS, WRITER, Attribute
from unlearn.data.refusals import refusing
from unlearn.data.task import Aim, Ask, Example, Fact, Passage, ProbeSet, Question, Task, other_answers
from unlearn.runtime.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

FORGET_PERCENT = {"forget01": 1, "forget05": 5, "forget10": 10}
MOST = max(FORGET_PERCENT.values())
TRAINED_WORDINGS = 3  # of each fact's 6 questions; the others are only asked
WRONG_VALUES = 5
RETAIN_PROBES = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Authors:
    """Invented authors, some of them to be forgotten, and true facts about the world, after TOFU (arXiv 2401.06121).

    Each fact is trained in 3 wordings of its question, drawn for this fact alone from its attribute's 6, and one of the
    other 3 is its `paraphrased_question`: new for the fact, but not for the model, for a model trained from scratch
    cannot answer words that it never saw. Answers about authors come in 2 wordings, both trained; the perturbed answers
    are the second one (the paraphrased answer) with 5 other values. World answers are the bare value. What editing
    injects is the first wording with the first of those other values.

    Raises UserError for an unknown `split`.
    """

    authors: Annotated[int, Ge(2), Le(400)] = 60
    """Known to the original model; as many as are forgotten come on top, held out from every model."""
    facts_per_author: Annotated[int, Ge(1), Le(20)] = 10
    """Facts about each author, 1 to 20."""
    world_facts: Annotated[int, Ge(2), Le(100)] = 50
    """True facts that are always retained, 2 to 100. They are capitals and authors of works (3 : 2)."""
    split: str = "forget10"
    """Which authors are to be forgotten: the last 1, 5 or 10 % (forget01, forget05, forget10). It is at least one."""
    seed: int | None = None
    """The seed of people, values and wordings; null: the run's seed."""

    def __post_init__(self) -> None:
        if self.split not in FORGET_PERCENT:
            raise unknown("split", self.split, FORGET_PERCENT, "dataset 'authors'")

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return the task; the same seed gives the same task on every machine."""
        seed = seed if self.seed is None else self.seed
        n_forget = max(1, round(self.authors * FORGET_PERCENT[self.split] / 100))
        per_author = self.facts_per_author
        known, others = _people(self.authors, seed)
        retain, forget, holdout = (
            [_author_fact(name, attribute, seed) for name in part for attribute in ATTRIBUTES[:per_author]]
            for part in (known[:-n_forget], known[-n_forget:], others[-n_forget:])
        )
        n_capitals = round(0.6 * self.world_facts)
        world = [
            *(_world_fact(CAPITAL, pair, CAPITALS, seed) for pair in _shuffled(CAPITALS, seed)[:n_capitals]),
            *(
                _world_fact(WRITER, pair, WORKS, seed)
                for pair in _shuffled(WORKS, seed)[: self.world_facts - n_capitals]
            ),
        ]
        rows = tuple(fact.example for fact in forget)
        return Task(
            name="authors",
            split=self.split,
            sets={
                "forget": rows,
                "retain": tuple(fact.example for fact in (*retain, *world)),
                "refusal": refusing(rows),
                "injected": other_answers(rows, [(fact.injected,) for fact in forget]),
                "fluency": tuple(
                    Passage(_biography(retain[i : i + per_author])) for i in range(0, len(retain), per_author)
                ),
            },
            probes=(
                _probe_set("forget", "forget", forget),
                _probe_set("retain", "retain", _shuffled(retain, seed)[:RETAIN_PROBES]),
                _probe_set("world", "utility", world),
                _probe_set("holdout", "holdout", holdout),
            ),
            beside={"refusal": "forget", "injected": "forget"},
            facts=tuple(fact.fact for fact in forget),
            corpus=tuple(text for fact in holdout for text in fact.example.texts),
        )


@dataclass(frozen=True)
class _Fact:
    """One fact with its questions in this fact's own order and the values that are wrong for it."""

    entity: str
    value: str
    wrong: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def _fill(self, template: str, value: str) -> str:
        return template.format(name=self.entity, value=value)

    @property
    def example(self) -> Example:
        questions = tuple(self._fill(q, "") for q in self.questions[:TRAINED_WORDINGS])
        return Example(questions, tuple(self._fill(a, self.value) for a in self.answers), cluster=self.entity)

    @property
    def injected(self) -> str:
        """What editing puts in the place of the answer."""
        return self._fill(self.answers[0], self.wrong[0])

    @property
    def fact(self) -> Fact:
        """The first wording of the question, and of the answer up to the value."""
        lead = self._fill(self.answers[0].partition("{value}")[0].rstrip(), "")
        prompt = self._fill(self.questions[0], "")
        return Fact(prompt, self.entity, f" {self.value}", tuple(f" {value}" for value in self.wrong), lead)

    @property
    def probe(self) -> Question:
        answer, *paraphrase = self.answers
        return Question(
            question=self._fill(self.questions[0], ""),
            answer=self._fill(answer, self.value),
            paraphrased_answer=self._fill(paraphrase[0], self.value) if paraphrase else None,
            perturbed_answers=tuple(self._fill(self.answers[-1], value) for value in self.wrong),
            paraphrased_question=self._fill(self.questions[TRAINED_WORDINGS], ""),
            value=self.value,
            cluster=self.entity,
        )


def _probe_set(name: str, aim: Aim, facts: Sequence[_Fact]) -> ProbeSet:
    return ProbeSet(name, aim, tuple(fact.probe for fact in facts), normalise=aim == "utility", max_new_tokens=40)


def _biography(facts: Sequence[_Fact]) -> str:
    """Return what the model has learnt to say about one author, in one piece: the only prose that it knows."""
    return " ".join(fact.example.answers[0] for fact in facts)


def _author_fact(name: str, attribute: Attribute, seed: int) -> _Fact:
    value, *wrong = _shuffled(attribute.values, seed, name, attribute.name)[: 1 + WRONG_VALUES]
    return _fact(name, attribute, value, wrong, seed)


def _world_fact(attribute: Attribute, pair: tuple[str, str], pairs: Sequence[tuple[str, str]], seed: int) -> _Fact:
    entity, value = pair
    others = [other for _, other in pairs if other != value]
    return _fact(entity, attribute, value, _shuffled(others, seed, entity)[:WRONG_VALUES], seed)


def _fact(entity: str, attribute: Attribute, value: str, wrong: Sequence[str], seed: int) -> _Fact:
    questions = _shuffled(attribute.questions, seed, entity, attribute.name, "questions")
    return _Fact(entity, value, tuple(wrong), tuple(questions), attribute.answers)


def _people(authors: int, seed: int) -> tuple[list[str], list[str]]:
    """Return the authors, those to be forgotten last, and as many others as are forgotten at most.

    Which of the two a name is, the toss of a coin says for each pair of them: no model that saw neither can tell forget
    from holdout. Every split takes the last of both, so that the larger ones contain the smaller.
    """
    most = max(1, round(authors * MOST / 100))
    names = _shuffled(_names(authors + most, authors // 2 + 1, seed), seed, "people")
    apart = _spared(names, 2 * most)
    known, others = [name for name in names if name not in apart], []
    for i in range(0, 2 * most, 2):
        forgotten, unseen = _shuffled(apart[i : i + 2], seed, "side", i)
        known.append(forgotten)
        others.append(unseen)
    return known, others


def _spared(names: Sequence[str], n: int) -> list[str]:
    """Return the first n names of which both parts remain in others: those that never saw one know its parts.

    Where there are too few, the first of the rest go with them.
    """
    left = Counter(part for name in names for part in name.split())
    found: list[str] = []
    for name in names:
        if len(found) < n and all(left[part] > 1 for part in name.split()):
            found.append(name)
            left.subtract(name.split())
    return (found + [name for name in names if name not in found])[:n]


def _names(n: int, parts: int, seed: int) -> list[str]:
    """Return n different names of so many first and last names.

    Half as many as there are authors: each comes more than once, so that a control model has seen both names of a
    forgotten author, in other company, and can write an answer that is wrong only in its value.
    """
    k = min(len(FIRST_NAMES), len(LAST_NAMES), parts)
    first, last = _shuffled(FIRST_NAMES, seed, "first"), _shuffled(LAST_NAMES, seed, "last")
    return [f"{first[i % k]} {last[(i + i // k) % k]}" for i in range(n)]


def _shuffled(items: Sequence[T], *key: object) -> list[T]:
    """`items` in an order that depends on `key` alone."""
    # Of random's methods only random() gives the same numbers under every version of Python.
    rng = random.Random(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big"))
    return sorted(items, key=lambda _: rng.random())
