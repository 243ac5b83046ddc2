"""Birthdays: invented people with random years of birth, which tell nothing about each other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

from annotated_types import Ge, Gt, Le

from unlearn.data.authors import TRAINED_WORDINGS
from unlearn.data.authors_tables import ATTRIBUTES, FIRST_NAMES, LAST_NAMES
from unlearn.data.refusals import refusing
from unlearn.data.task import Aim, Ask, Example, Fact, Passage, ProbeSet, Question, Task, other_answers

YEARS = tuple(str(year) for year in range(1930, 2021))
WRONG = 3  # other years offered beside the right one
BIRTH = next(attribute for attribute in ATTRIBUTES if attribute.name == "birth year")
LEAD = BIRTH.answers[0].removesuffix(" {value}.")


@dataclass(frozen=True)
class Birthdays:
    """The clean data of the retraining protocol, after the random birthdays of Deeb and Roger 2024 (arXiv 2410.08827).

    Whoever learns some of the years knows nothing of the others, so what an attack brings back was in the model. Years
    are drawn from 1930 to 2020, three other years are the wrong answers. Everybody is trained in 3 of 6 wordings of the
    question, each person's own, and both of the answer.
    """

    people: Annotated[int, Ge(8), Le(1000)] = 200
    """Known to the original model, 8 to 1000; as many as are forgotten come on top, held out from every model."""
    forget: Annotated[int, Gt(0), Le(1000)] = 40
    """The last so many are to be forgotten."""
    seed: int | None = None
    """The seed of names and years; null: the run's seed."""

    def __post_init__(self) -> None:
        if self.forget >= self.people:
            raise ValueError(f"forget={self.forget} leaves nobody of people={self.people}")

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return the task; the same seed gives the same people."""
        rng = random.Random(f"birthdays-{seed if self.seed is None else self.seed}")
        names = rng.sample([" ".join(pair) for pair in product(FIRST_NAMES, LAST_NAMES)], self.people + self.forget)
        people = [_Person.of(name, rng) for name in names]
        retain, forget = people[: self.people - self.forget], people[self.people - self.forget : self.people]
        rows = tuple(person.example for person in forget)
        return Task(
            name="birthdays",
            split=f"forget{self.forget}",
            sets={
                "forget": rows,
                "retain": tuple(person.example for person in retain),
                "refusal": refusing(rows),
                "injected": other_answers(rows, [person.answers(person.wrong[0])[:1] for person in forget]),
                "fluency": tuple(
                    Passage(" ".join(p.example.answers[0] for p in retain[i : i + 8])) for i in range(0, len(retain), 8)
                ),
            },
            probes=(
                _probe_set("forget", "forget", forget),
                _probe_set("retain", "retain", retain),
                _probe_set("holdout", "holdout", people[self.people :]),
            ),
            beside={"refusal": "forget", "injected": "forget"},
            facts=tuple(person.fact for person in forget),
            corpus=tuple(text for person in people[self.people :] for text in person.example.texts),
        )


@dataclass(frozen=True)
class _Person:
    """Somebody with the year, wrong years, and the wordings of the question in this person's own order."""

    name: str
    year: str
    wrong: Sequence[str]
    questions: Sequence[str]

    @classmethod
    def of(cls, name: str, rng: random.Random) -> _Person:
        year, *wrong = rng.sample(YEARS, 1 + WRONG)
        return cls(name, year, wrong, [q.format(name=name) for q in rng.sample(BIRTH.questions, len(BIRTH.questions))])

    def answers(self, year: str) -> tuple[str, ...]:
        return tuple(answer.format(name=self.name, value=year) for answer in BIRTH.answers)

    @property
    def example(self) -> Example:
        return Example(tuple(self.questions[:TRAINED_WORDINGS]), self.answers(self.year), self.name)

    @property
    def probe(self) -> Question:
        answer, paraphrase = self.answers(self.year)
        return Question(
            self.questions[0],
            answer,
            paraphrased_answer=paraphrase,
            perturbed_answers=tuple(self.answers(year)[1] for year in self.wrong),
            paraphrased_question=self.questions[TRAINED_WORDINGS],
            value=self.year,
            cluster=self.name,
        )

    @property
    def fact(self) -> Fact:
        foils = tuple(f" {year}" for year in self.wrong)
        return Fact(self.questions[0], self.name, f" {self.year}", foils, LEAD.format(name=self.name))


def _probe_set(name: str, aim: Aim, people: Sequence[_Person]) -> ProbeSet:
    return ProbeSet(name, aim, tuple(person.probe for person in people), max_new_tokens=24)
