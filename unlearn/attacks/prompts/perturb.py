"""Naive perturbation: stray characters in the question."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt, Le, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

_RANDOM = "random"
Insert = Callable[[str, str, random.Random], str]
"""From a text, a character and what random numbers are drawn from to the text with the character in it."""


@dataclass(frozen=True)
class Perturb:
    """Insert characters into the question (Lucki et al. 2024, arXiv 2409.18025).

    Unlearning that depends on its very tokens does not recognise it. There is a variant for every combination of
    character and rate; what is drawn is drawn for each seed and item.
    """

    characters: Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1)] = ("!", _RANDOM)
    """What is inserted; random: a punctuation mark, drawn each time."""
    every: tuple[Annotated[int, Gt(0)], ...] = (15, 7, 3)
    """After each n-th character; the paper: 1, 3, 5, 7, 11, 15."""
    chances: tuple[Annotated[float, Gt(0), Le(1)], ...] = (0.1,)
    """After each with this probability; the paper: 0.1, 0.2, 0.3."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "prompting"
    reference: ClassVar[str] = "arXiv 2409.18025"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def __post_init__(self) -> None:
        if not self.every and not self.chances:
            raise ValueError("every and chances are both empty: nothing would be inserted")

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed, character and rate."""
        from unlearn.attacks.prompts.ask import ask_variants

        inserts: dict[str, Insert] = {f"every {n}": every(n) for n in self.every}
        inserts |= {f"chance {p:g}": by_chance(p) for p in self.chances}
        asked = {}
        for seed in setting.seeds:
            for character in dict.fromkeys(self.characters):
                for rate, insert in inserts.items():
                    name = f"{character} {rate}"
                    asked[name, seed] = [
                        replace(
                            item.probe,
                            question=insert(
                                item.probe.question, character, random.Random(f"{name}-{seed}-{item.index}")
                            ),
                        )
                        for item in setting.held_out_items
                    ]
        found = ask_variants(subject, setting, asked)
        outcomes = [Outcome(name, found[name, seed].known, found[name, seed].texts, seed) for name, seed in asked]
        return AttackResult(outcomes, budget=f"{len(asked)} questions an item")


def every(n: int) -> Insert:
    """Return a function that inserts after each n-th character."""
    return lambda text, character, rng: "".join(
        c + (_mark(character, rng) if i % n == 0 else "") for i, c in enumerate(text, 1)
    )


def by_chance(p: float) -> Insert:
    """Return a function that inserts after each character with probability p."""
    return lambda text, character, rng: "".join(c + (_mark(character, rng) if rng.random() < p else "") for c in text)


def _mark(character: str, rng: random.Random) -> str:
    """Return what is inserted."""
    return rng.choice(string.punctuation) if character == _RANDOM else character
