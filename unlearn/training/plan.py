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
from unlearn.data.task import Example, Passage, Row, Task
from unlearn.recipe import Recipe
from unlearn.runtime.errors import unknown

Encode = Callable[[str, str], Encoded]
EncodeText = Callable[[str], Encoded]
BESIDE = {"alternate": "refusal", "injected": "injected"}  # segments whose rows belong to the forget rows: their sets
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
    if unknown_segments := set(segments) - {"forget", "retain", "fluency", *BESIDE}:
        raise unknown("segment", min(unknown_segments), ["forget", "retain", "fluency", *BESIDE], "a training plan")
    retain_size = recipe.retain_batch_size or recipe.batch_size

    def stream(name: str, batch: int) -> Iterator[list[_Visit]]:
        return builder.stream(task.rows(name), batch, recipe.bucket, random.Random(f"{name}-{seed}"))

    forget = stream("forget", recipe.batch_size)
    others = {name: stream(name, retain_size) for name in ("retain", "fluency") if name in segments}
    beside = {name: task.examples(BESIDE[name]) for name in BESIDE if name in segments}
    draw = {name: random.Random(f"{BESIDE[name]}-{seed}") for name in beside}
    steps = []
    for _ in range(_steps(recipe, len(task.rows("forget")))):
        step = {}
        if "forget" in segments or beside:
            visits = next(forget)
            step["forget"] = [visit.row for visit in visits]
            for name, rows in beside.items():
                step[name] = [builder.beside(rows[visit.item], visit, draw[name]) for visit in visits]
        for name, drawn in others.items():
            step[name] = [visit.row for visit in next(drawn)]
        steps.append({name: numbers for name, numbers in step.items() if name in segments})
    return Plan(builder.rows, steps)


def _steps(recipe: Recipe, examples: int) -> int:
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None  # Recipe checks it
    return max(1, round(recipe.epochs * math.ceil(examples / recipe.batch_size)))


class _Visit(NamedTuple):
    """An item as it was drawn: its row's number, its own, and that of the question's wording."""

    row: int
    item: int
    wording: int = 0


class _Builder:
    """Encodes each distinct (question, answer), or passage, once and hands out row numbers."""

    def __init__(self, encode: Encode, encode_text: EncodeText | None = None) -> None:
        self.encode = encode
        self.encode_text = encode_text
        self.rows: list[Encoded] = []
        self.numbers: dict[tuple[str, ...], int] = {}

    def row(self, question: str, answer: str) -> int:
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

    def visit(self, number: int, item: Row, rng: random.Random) -> _Visit:
        """An example in one of its wordings, or a passage."""
        if isinstance(item, Passage):
            return _Visit(self.passage(item.text), number)
        assert isinstance(item, Example), "pictures are planned elsewhere"
        wording = rng.choice(range(len(item.questions)))
        return _Visit(self.row(item.questions[wording], rng.choice(item.answers)), number, wording)

    def beside(self, item: Example, visit: _Visit, rng: random.Random) -> int:
        """The row of an example that belongs to a visited one, in the same wording."""
        return self.row(item.questions[visit.wording], rng.choice(item.answers))

    def stream(self, items: Sequence[Row], batch: int, bucket: bool, rng: random.Random) -> Iterator[list[_Visit]]:
        """Endless batches of visits, in shuffled passes; a pass's last batch may be short."""
        while True:
            visits = [self.visit(i, item, rng) for i, item in enumerate(items)]
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
