"""Which rows every optimizer step sees: a pure function of the data, the recipe and the seed.

Nothing about the order of rows has to be saved to resume: step 57 is the same however the process got there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from unlearn.data.prompt import Encoded, PromptFormat, encode_passage, encode_spans
from unlearn.data.task import Example, Passage, Row, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from unlearn.recipe import Recipe

Encode = Callable[[str, str], Encoded]
EncodeText = Callable[[Passage, str], Encoded]
"""From a passage and the name of its set."""
ROWS = "rows"
"""The segment of rows that belong to no set of a task."""
_BUCKET_STEPS = 8  # steps whose rows are sorted together: enough to save padding, few enough to keep the order random


@dataclass
class Plan:
    """The rows of every step."""

    rows: list[Encoded] = field(default_factory=list)
    """All distinct encoded rows."""
    steps: list[dict[str, list[int]]] = field(default_factory=list)
    """For each step, the numbers of its rows by segment."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """{"refusal": "forget"}: the k-th rows of the two segments answer the same question, where a step has them."""

    def used(self, *segments: str) -> list[int]:
        """Return the numbers of the rows that these segments ever use, ascending."""
        return sorted({row for step in self.steps for name in segments for row in step.get(name, ())})


def plan_training(examples: Sequence[Example], encode: Encode, recipe: Recipe, seed: int) -> Plan:
    """Plan plain training on `examples`, as segment "rows"."""
    builder = _Builder(encode)
    main = builder.stream(examples, recipe.batch_size, recipe.bucket, random.Random(f"train-{seed}"))
    steps = _steps(recipe, len(examples))
    return Plan(builder.rows, [{ROWS: [visit.row for visit in next(main)]} for _ in range(steps)])


def plan_sets(
    task: Task,
    segments: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    prompt: PromptFormat,
    recipe: Recipe,
    seed: int,
) -> Plan:
    """Run `plan_unlearning` with questions put as `prompt` says.

    Of a passage all tokens but the first are labelled; in the set "forget", where it has spans, those that overlap one.
    """

    def encode(question: str, answer: str) -> Encoded:
        return prompt.encode(tokenizer, question, answer)

    def encode_plain(passage: Passage, name: str) -> Encoded:
        if name == "fluency":
            return encode_passage(tokenizer, passage.text)
        spans = passage.spans if name == "forget" else ()
        return encode_spans(tokenizer, passage.text, spans, prompt.max_tokens)

    return plan_unlearning(task, segments, encode, recipe, seed, encode_plain)


def plan_unlearning(
    task: Task,
    segments: Sequence[str],
    encode: Encode,
    recipe: Recipe,
    seed: int,
    encode_text: EncodeText | None = None,
) -> Plan:
    """Plan unlearning: each step draws rows of each of these sets of the task, in shuffled passes of its own.

    A set that lies beside another is drawn with it: the same rows in the same wording, one of the answers of each at
    random. Of "forget" a step has `batch_size` rows, of any other set `retain_batch_size`; passages need `encode_text`.
    A length in epochs is counted in passes over the forget set. UserError where the task has no such set.
    """
    builder = _Builder(encode, encode_text)
    beside = {name: task.beside[name] for name in segments if name in task.beside}
    rows = {name: task.examples(name) for name in beside}
    draw = {name: random.Random(f"{name}-{seed}") for name in beside}
    streams: dict[str, Iterator[list[_Visit]]] = {}
    for name in dict.fromkeys(beside.get(name, name) for name in segments):
        size = recipe.batch_size if name == "forget" else recipe.retain_batch_size or recipe.batch_size
        rng = random.Random(f"{name}-{seed}")
        streams[name] = builder.stream(task.rows(name), size, recipe.bucket, rng, name)
    steps = []
    for _ in range(_steps(recipe, 0 if recipe.epochs is None else len(task.rows("forget")))):
        numbers = {}
        for name, stream in streams.items():
            visits = next(stream)
            numbers[name] = [visit.row for visit in visits]
            for other in (other for other, anchor in beside.items() if anchor == name):
                numbers[other] = [builder.beside(rows[other][visit.item], visit, draw[other]) for visit in visits]
        steps.append({name: numbers[name] for name in segments})
    return Plan(builder.rows, steps, beside)


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
    """Encode each distinct (question, answer), or passage of a set, once and hand out row numbers."""

    def __init__(self, encode: Encode, encode_text: EncodeText | None = None) -> None:
        self.encode = encode
        self.encode_text = encode_text
        self.rows: list[Encoded] = []
        self.numbers: dict[tuple[object, ...], int] = {}

    def row(self, question: str, answer: str) -> int:
        return self._number((question, answer), self.encode)

    def passage(self, passage: Passage, name: str) -> int:
        assert self.encode_text is not None, "a plan with passages needs encode_text"
        return self._number((passage, name), self.encode_text)

    def _number(self, content: tuple[object, ...], encode: Callable[..., Encoded]) -> int:
        number = self.numbers.get(content)
        if number is None:
            number = self.numbers[content] = len(self.rows)
            self.rows.append(encode(*content))
        return number

    def visit(self, number: int, item: Row, rng: random.Random, name: str) -> _Visit:
        """Draw an example in one of its wordings, or a passage."""
        if isinstance(item, Passage):
            return _Visit(self.passage(item, name), number)
        assert isinstance(item, Example), "pictures are planned elsewhere"
        wording = rng.choice(range(len(item.questions)))
        return _Visit(self.row(item.questions[wording], rng.choice(item.answers)), number, wording)

    def beside(self, item: Example, visit: _Visit, rng: random.Random) -> int:
        """Return the row of an example that belongs to a visited one, in the same wording."""
        return self.row(item.questions[visit.wording], rng.choice(item.answers))

    def stream(
        self, items: Sequence[Row], batch: int, bucket: bool, rng: random.Random, name: str = ""
    ) -> Iterator[list[_Visit]]:
        """Give endless batches of visits, in shuffled passes; a pass's last batch may be short."""
        while True:
            visits = [self.visit(i, item, rng, name) for i, item in enumerate(items)]
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
