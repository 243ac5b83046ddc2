"""Sports facts: which of three sports an athlete plays, a small world in which localised editing is studied."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Le

from unlearn.data.editing import first_or_random, maintained, multiple_choice, probabilities
from unlearn.data.fluency import check_fluency, fluency
from unlearn.data.history import KNOWN
from unlearn.data.task import COMPLETION, Aim, Ask, Example, Fact, ProbeSet, Question, Task
from unlearn.runtime.errors import UserError, unknown

MAX_NEW_TOKENS = 4
TABLE = Path(__file__).with_suffix(".csv")
PLAYED = ("football", "baseball", "basketball")
SPORTS = (*PLAYED, "golf")  # golf is no athlete's: the sport of the one example, and one to inject
SPLITS = ("first_16", "first_64", "random_16", "random_64", *PLAYED)

PROMPT = "Athlete: Tiger Woods\nSport: golf\n\nAthlete: {athlete}\nSport:"
PARAPHRASE = "Q: Which sport is Tiger Woods known for?\nA: golf\n\nQ: Which sport is {athlete} known for?\nA:"
# The example's options keep their letters while the athlete's rotate: to repeat its letter is to answer at chance.
CHOICE = (
    "Which sport does Tiger Woods play?\nA. football\nB. baseball\nC. basketball\nD. golf\nAnswer: D\n\n"
    "Which sport does {athlete} play?\n{options}\nAnswer:"
)


class Athlete(NamedTuple):
    """A row of the table. inject, inject_golf: a wrong sport fixed for this athlete, without and with golf."""

    athlete: str
    sport: str
    inject: str
    inject_golf: str

    @property
    def prompt(self) -> str:
        """The training template."""
        return PROMPT.format(athlete=self.athlete)


Asked = Sequence[tuple[Athlete, str]]  # athletes, each with the sport that counts as the answer


@dataclass(frozen=True)
class SportsFacts:
    """1,559 athletes of football, baseball and basketball (after Nanda et al. 2023).

    Split and edited as in Mechanistic Unlearning (Guo et al. 2024, arXiv 2410.12949).

    The athletes that are not to be forgotten are maintained: the first 80% trained on, the last 20% asked about. An
    answer's probability is that among the four sports. Multiple choice puts each question four times, each option once
    under each letter; nothing is generated there, so model utility rests on the plain questions.

    Raises UserError for an unknown split, too few athletes, or where an injected sport is the true one.
    """

    split: str = "first_64"
    """Whom to forget: first_16, first_64, random_16 or random_64 athletes, or all of a sport (football, baseball,
    basketball). Of a sport the first half is trained on and the second asked about; the others are all trained on and
    asked about."""
    inject: Literal["wrong_sport", "with_golf", "football", "baseball", "basketball", "golf"] = "wrong_sport"
    """What is injected: wrong_sport (fixed for each athlete), with_golf (the same with golf among them), or one sport
    for all."""
    fluency: str | None = None
    """Plain text for method=inject, a text file or a dataset; null: the package's own passages."""
    pretrained: bool = True
    """The model knows athletes already; false: teach it them first, and a control model without the forget set."""
    known: Annotated[float, Gt(0), Le(1)] | None = None
    """Keep only athletes whose sport the model gives at least this probability among the four."""
    max_retain: Annotated[int, Gt(0)] | None = None
    """Train on the first n maintained athletes only."""
    max_forget: Annotated[int, Gt(0)] | None = 100
    """Ask about at most so many forgotten athletes; null: all."""
    max_maintain: Annotated[int, Gt(0)] | None = 100
    """Ask about at most so many maintained athletes; null: all."""
    facts: Annotated[int, Ge(0)] = 500
    """Localizers look at the first so many athletes."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS, "dataset 'sports_facts'")
        check_fluency(self.fluency)

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return the task; the seed decides nothing, for the random splits are the published ones."""
        athletes = self._known(athletes_in(TABLE), ask)
        chosen = self._chosen(athletes)
        forget = [athletes[i] for i in chosen]
        half = len(forget) // 2
        train, test = (forget[:half], forget[half:]) if self.split in PLAYED else (forget, forget)
        retain, maintain = maintained(athletes, set(chosen))
        if not train or not retain or not maintain:
            raise UserError(
                f"dataset 'sports_facts' ({self.split}): {len(forget)} athletes to forget and "
                f"{len(athletes) - len(forget)} others are too few: lower dataset.known={self.known}"
            )
        if wrong := [row.athlete for row in forget if self._target(row) == row.sport]:
            raise UserError(
                f"'dataset.inject' is '{self.inject}', the true sport of {len(wrong)} of the {len(forget)} athletes to "
                f"forget ({wrong[0]} for one): choose another sport, such as golf"
            )
        asked = test[: self.max_forget]
        true: Asked = [(row, row.sport) for row in asked]
        injected: Asked = [(row, self._target(row)) for row in asked]
        kept: Asked = [(row, row.sport) for row in maintain[: self.max_maintain]]
        return Task(
            name="sports_facts",
            split=self.split,
            sets={
                "forget": tuple(_example(row, row.sport) for row in train),
                "retain": tuple(_example(row, row.sport) for row in retain[: self.max_retain]),
                "injected": tuple(_example(row, self._target(row)) for row in train),
                "fluency": fluency(self.fluency),
            },
            probes=(
                _plain("forget", "forget", true),
                _plain("injected", "injected", injected),
                _plain("paraphrase", "transfer", true, PARAPHRASE),
                _plain("maintain", "retain", kept),
                _choice("forget_choice", "transfer", true),
                _choice("injected_choice", "injected", injected),
                _choice("maintain_choice", "retain", kept),
            ),
            beside={"injected": "forget"},
            facts=tuple(_fact(row) for row in athletes[: self.facts]),
            prompt=COMPLETION,
            pretrained=KNOWN if self.pretrained else None,
        )

    def _known(self, athletes: Sequence[Athlete], ask: Ask | None) -> Sequence[Athlete]:
        """Return the athletes whose sport the model knows; all of them where that does not matter."""
        if self.known is None:
            return athletes
        p = iter(probabilities(ask, [(row.prompt, f" {sport}") for row in athletes for sport in SPORTS]))
        shares = [dict(zip(SPORTS, (next(p) for _ in SPORTS), strict=True)) for _ in athletes]
        return [row for row, of in zip(athletes, shares, strict=True) if of[row.sport] >= self.known * sum(of.values())]

    def _chosen(self, athletes: Sequence[Athlete]) -> list[int]:
        """Return the numbers of the athletes to forget."""
        if self.split in PLAYED:
            return [i for i, row in enumerate(athletes) if row.sport == self.split]
        return first_or_random(self.split, len(athletes))

    def _target(self, row: Athlete) -> str:
        """Return the sport to inject."""
        return {"wrong_sport": row.inject, "with_golf": row.inject_golf}.get(self.inject, self.inject)


def athletes_in(path: Path) -> list[Athlete]:
    """Return the rows of the table, in the published order, by which splits go."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Athlete(**row) for row in csv.DictReader(file)]


def _example(row: Athlete, sport: str) -> Example:
    return Example((row.prompt,), (f" {sport}",), row.athlete)


def _fact(row: Athlete) -> Fact:
    foils = tuple(f" {sport}" for sport in PLAYED if sport != row.sport)
    return Fact(row.prompt, row.athlete, f" {row.sport}", foils, label=row.sport)


def _plain(name: str, aim: Aim, asked: Asked, template: str = PROMPT) -> ProbeSet:
    """Return the question in one template, its answer among the four sports."""
    probes = tuple(
        Question(
            question=template.format(athlete=row.athlete),
            answer=f" {answer}",
            perturbed_answers=tuple(f" {sport}" for sport in SPORTS if sport != answer),
            paraphrased_question=PARAPHRASE.format(athlete=row.athlete) if template == PROMPT else None,
            value=answer,
            cluster=row.athlete,
        )
        for row, answer in asked
    )
    return ProbeSet(name, aim, probes, normalise=True, max_new_tokens=MAX_NEW_TOKENS)


def _choice(name: str, aim: Aim, asked: Asked) -> ProbeSet:
    """Return the same as multiple choice, four times."""
    probes = [
        probe
        for row, answer in asked
        for probe in multiple_choice(CHOICE.replace("{athlete}", row.athlete), SPORTS, answer, row.athlete)
    ]
    return ProbeSet(name, aim, tuple(probes), normalise=True, generate=False, max_new_tokens=MAX_NEW_TOKENS)
