"""Which rows every optimizer step sees: a pure function of the data, the recipe and the seed.

Nothing about the order of rows has to be saved to resume: step 57 is the same however the process got there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from unlearn.data.task import Example, Task
from unlearn.models.prompt import Encoded
from unlearn.recipe import Recipe

Encode = Callable[[str, str], Encoded]
_BUCKET_STEPS = 8  # steps whose rows are sorted together: enough to save padding, few enough to keep the order random


@dataclass
class Plan:
    """`rows` are all distinct encoded rows; steps[s] maps a segment's name to the row numbers of step s.

    Where a segment "alternate" exists, its k-th row answers the same question as the k-th row of "forget".
    """

    rows: list[Encoded] = field(default_factory=list)
    steps: list[dict[str, list[int]]] = field(default_factory=list)

    def used(self, *segments: str) -> list[int]:
        """Numbers of the rows that these segments ever use, ascending."""
        return sorted({row for step in self.steps for name in segments for row in step.get(name, ())})


def plan_training(examples: Sequence[Example], encode: Encode, recipe: Recipe, seed: int) -> Plan:
    """Plain training on `examples`, as segment "retain" (the part that a loss lowers the nll of)."""
    builder = _Builder(encode)
    main = builder.stream(examples, recipe.batch_size, recipe.bucket, random.Random(f"train-{seed}"))
    steps = _steps(recipe, len(examples))
    return Plan(builder.rows, [{"retain": [row for row, _ in next(main)]} for _ in range(steps)])


def plan_unlearning(task: Task, segments: Collection[str], encode: Encode, recipe: Recipe, seed: int) -> Plan:
    """Unlearning: each step draws forget examples and retain examples, each set in shuffled passes of its own.

    segments: which of "forget", "alternate" (the forget questions, each with a refusal drawn at random) and "retain"
    the method wants. The length in epochs is counted in passes over the forget set.
    """
    builder = _Builder(encode)
    forget = builder.stream(task.forget, recipe.batch_size, recipe.bucket, random.Random(f"forget-{seed}"))
    retain_size = recipe.retain_batch_size or recipe.batch_size
    retain = builder.stream(task.retain, retain_size, recipe.bucket, random.Random(f"retain-{seed}"))
    draw = random.Random(f"refusal-{seed}")
    steps = []
    for _ in range(_steps(recipe, len(task.forget))):
        step = {}
        if "forget" in segments or "alternate" in segments:
            visits = next(forget)
            step["forget"] = [row for row, _ in visits]
            if "alternate" in segments:
                step["alternate"] = [builder.row(question, draw.choice(task.refusals)) for _, question in visits]
        if "retain" in segments:
            step["retain"] = [row for row, _ in next(retain)]
        steps.append({name: rows for name, rows in step.items() if name in segments})
    return Plan(builder.rows, steps)


def _steps(recipe: Recipe, examples: int) -> int:
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None  # Recipe checks it
    return max(1, round(recipe.epochs * math.ceil(examples / recipe.batch_size)))


class _Builder:
    """Encodes each distinct (question, answer) once and hands out row numbers."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self.rows: list[Encoded] = []
        self.numbers: dict[tuple[str, str], int] = {}

    def row(self, question: str, answer: str) -> int:
        number = self.numbers.get((question, answer))
        if number is None:
            number = self.numbers[question, answer] = len(self.rows)
            self.rows.append(self.encode(question, answer))
        return number

    def stream(
        self, examples: Sequence[Example], batch: int, bucket: bool, rng: random.Random
    ) -> Iterator[list[tuple[int, str]]]:
        """Endless batches of (row number, question), in shuffled passes; a pass's last batch may be short."""
        while True:
            visits = []
            for example in examples:
                question = rng.choice(example.questions)
                visits.append((self.row(question, rng.choice(example.answers)), question))
            rng.shuffle(visits)
            batches = []
            width = batch * _BUCKET_STEPS if bucket else len(visits)
            for start in range(0, len(visits), width):
                chunk = visits[start : start + width]
                if bucket:
                    chunk.sort(key=lambda visit: len(self.rows[visit[0]].ids))
                batches += [chunk[i : i + batch] for i in range(0, len(chunk), batch)]
            if bucket:
                rng.shuffle(batches)
            yield from batches
