"""A dataset: what to forget, what to keep, and what to ask afterwards."""

from __future__ import annotations

import random
from dataclasses import dataclass

from unlearn.data.task import Ask, Example, ProbeSet, Question, Task

_TOWNS = ("Arlo", "Bexley", "Cormo", "Dunmar", "Elvas", "Ferrin", "Galt", "Hosk")


@dataclass(frozen=True)
class Capitals:
    """Invented countries with a capital each."""

    countries: int = 40
    """How many there are."""
    forget: int = 8
    """How many of them are to be forgotten, the last ones."""

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return the task; who has which capital depends on the seed."""
        draw = random.Random(seed)
        facts = [(f"Land {i}", draw.choice(_TOWNS)) for i in range(self.countries)]
        rows = [Example((f"What is the capital of {name}?",), (f"It is {town}.",), name) for name, town in facts]
        probes = [
            Question(row.questions[0], row.answers[0], value=town, cluster=name)
            for row, (name, town) in zip(rows, facts, strict=True)
        ]
        kept = self.countries - self.forget
        return Task(
            name="capitals",
            split="",
            sets={"forget": tuple(rows[kept:]), "retain": tuple(rows[:kept])},
            probes=(
                ProbeSet("forget", "forget", tuple(probes[kept:]), max_new_tokens=16),
                ProbeSet("retain", "retain", tuple(probes[:kept]), max_new_tokens=16),
            ),
        )
