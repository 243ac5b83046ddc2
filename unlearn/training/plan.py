"""Which rows every optimizer step sees: a pure function of the data, the recipe and the seed.

Nothing about the order of rows has to be saved to resume: step 57 is the same however the process got there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unlearn.data.prompt import Encoded
from unlearn.data.task import Example, Task
from unlearn.recipe import Recipe

Encode = Callable[[str, str], Encoded]
EncodeText = Callable[[str], Encoded]
_BUCKET_STEPS = 8  # steps whose rows are sorted together: enough to save padding, few enough to keep the order random


@dataclass
class Plan:
    """`rows` are all distinct encoded rows; steps[s] maps a segment's name to the row numbers of step s.

    The k-th rows of the segments "forget", "alternate" and "injected" answer the same question, where a step has them.
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
    return Plan(builder.rows, [{"retain": [visit.row for visit in next(main)]} for _ in range(steps)])


def plan_unlearning(
    task: Task,
    segments: Collection[str],
    encode: Encode,
    recipe: Recipe,
    seed: int,
    encode_text: EncodeText | None = None,
) -> Plan:
    """Unlearning: each step draws forget examples and retain examples, each set in shuffled passes of its own.

    segments: which the method wants of "forget", "alternate" (the forget questions, each with a refusal drawn at
    random), "injected" (the same with what editing puts in the answer's place), "retain" and "fluency" (as many
    passages of plain text as retain rows, which needs `encode_text`). The length in epochs is counted in passes over
    the forget set.
    """
    builder = _Builder(encode, encode_text)
    forget = builder.stream(task.forget, recipe.batch_size, recipe.bucket, random.Random(f"forget-{seed}"))
    retain_size = recipe.retain_batch_size or recipe.batch_size
    retain = builder.stream(task.retain, retain_size, recipe.bucket, random.Random(f"retain-{seed}"))
    fluency = builder.stream(task.fluency, retain_size, recipe.bucket, random.Random(f"fluency-{seed}"))
    draw = random.Random(f"refusal-{seed}")
    steps = []
    for _ in range(_steps(recipe, len(task.forget))):
        step = {}
        if {"forget", "alternate", "injected"} & set(segments):
            visits = next(forget)
            step["forget"] = [visit.row for visit in visits]
            if "alternate" in segments:
                step["alternate"] = [builder.row(visit.question, draw.choice(task.refusals)) for visit in visits]
            if "injected" in segments:
                step["injected"] = [builder.row(visit.question, visit.injected) for visit in visits]
        if "retain" in segments:
            step["retain"] = [visit.row for visit in next(retain)]
        if "fluency" in segments:
            step["fluency"] = [visit.row for visit in next(fluency)]
        steps.append({name: rows for name, rows in step.items() if name in segments})
    return Plan(builder.rows, steps)


def _steps(recipe: Recipe, examples: int) -> int:
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None  # Recipe checks it
    return max(1, round(recipe.epochs * math.ceil(examples / recipe.batch_size)))


class _Visit(NamedTuple):
    """An item as it was drawn: its row's number and, of an example, the question's wording and what to inject."""

    row: int
    question: str = ""
    injected: str | None = None


class _Builder:
    """Encodes each distinct (question, answer), or passage, once and hands out row numbers."""

    def __init__(self, encode: Encode, encode_text: EncodeText | None = None) -> None:
        self.encode = encode
        self.encode_text = encode_text
        self.rows: list[Encoded] = []
        self.numbers: dict[tuple[str, ...], int] = {}

    def row(self, question: str, answer: str | None) -> int:
        assert answer is not None, "check_needs sees to it"
        return self._number((question, answer), self.encode)

    def passage(self, text: str) -> int:
        assert self.encode_text is not None, "a plan with fluency text needs encode_text"
        return self._number((text,), self.encode_text)

    def _number(self, texts: tuple[str, ...], encode: Callable[..., Encoded]) -> int:
        number = self.numbers.get(texts)
        if number is None:
            number = self.numbers[texts] = len(self.rows)
            self.rows.append(encode(*texts))
        return number

    def visit(self, item: Example | str, rng: random.Random) -> _Visit:
        """An example in one of its wordings, or a passage."""
        if isinstance(item, str):
            return _Visit(self.passage(item))
        question = rng.choice(item.questions)
        return _Visit(self.row(question, rng.choice(item.answers)), question, item.injected)

    def stream(
        self, items: Sequence[Example | str], batch: int, bucket: bool, rng: random.Random
    ) -> Iterator[list[_Visit]]:
        """Endless batches of visits, in shuffled passes; a pass's last batch may be short."""
        while True:
            visits = [self.visit(item, rng) for item in items]
            rng.shuffle(visits)
            batches = []
            width = batch * _BUCKET_STEPS if bucket else len(visits)
            for start in range(0, len(visits), width):
                chunk = visits[start : start + width]
                if bucket:
                    chunk.sort(key=lambda visit: len(self.rows[visit.row].ids))
                batches += [chunk[i : i + batch] for i in range(0, len(chunk), batch)]
            if bucket:
                rng.shuffle(batches)
            yield from batches
