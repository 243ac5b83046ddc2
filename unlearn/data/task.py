"""What every dataset gives: named sets of rows to train on, and probes to ask afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from unlearn.data.checks import LackingError, check_task
from unlearn.data.history import FORGET_AND_RETAIN, History
from unlearn.data.narrowing import DeclaredSets, Undeclared
from unlearn.data.prompt import PromptFormat
from unlearn.data.words import blank
from unlearn.runtime.errors import UserError, unknown

Role = Literal["original", "unlearned", "control"]
Aim = Literal["forget", "transfer", "injected", "restore", "retain", "utility", "holdout"]
Modality = Literal["text", "image"]
COMPLETION = PromptFormat(chat_template=False, eos=False)  # the text as it is; the answer is how it goes on
Ask = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""From (prompt, answer) pairs, put as COMPLETION, to the probability that the model which the run starts from gives to
the first token of each answer. Datasets that keep only what a model knows are given one."""


@dataclass(frozen=True)
class Example:
    """A question and its answer, in one or more wordings; training draws one of each per visit."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    cluster: str = ""
    """What the row is about (a TOFU author): rows of one cluster are not independent."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written in the row."""
        return (*self.questions, *self.answers)

    @property
    def fault(self) -> str:
        """What is wrong with the row, "" where nothing is."""
        whole = self.questions and self.answers and not any(map(blank, self.texts))
        return "" if whole else "an empty question or answer"


@dataclass(frozen=True)
class Passage:
    """Plain text."""

    text: str
    cluster: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    """The part that matters (the harmful sentences of a text), as [start, end) in characters; (): all of it. In the set
    "forget" only tokens that overlap it are labels; models that learn the text learn all of it."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written in the row."""
        return (self.text,)

    @property
    def fault(self) -> str:
        """What is wrong with the row, "" where nothing is."""
        if blank(self.text):
            return "no text"
        for start, end in self.spans:
            if start >= end:
                return f"an empty span, {start} to {end}"
            if not 0 <= start < end <= len(self.text):
                return f"a span outside its text, {start} to {end} of {len(self.text)} characters"
        return ""


@dataclass(frozen=True)
class ImageExample:
    """A picture and the prompt that it belongs to."""

    prompt: str
    image: str
    """The image file."""
    sha256: str
    """Of the file's content: another picture is another row."""
    cluster: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written in the row."""
        return (self.prompt,)

    @property
    def fault(self) -> str:
        """What is wrong with the row, "" where nothing is."""
        return "no prompt" if blank(self.prompt) else ""


Row = Example | Passage | ImageExample
Rows = tuple[Row, ...]


@dataclass(frozen=True)
class Fact:
    """A fact as localizers look for it inside a model: asked `prompt`, it answers `lead` + `answer`."""

    prompt: str
    entity: str
    """What the fact is about, as written in prompt and maybe in lead; its last mention counts."""
    answer: str
    """The fact, with the space before it where it has one; its first token is what is looked at."""
    foils: tuple[str, ...] = ()
    """Wrong answers in the same form."""
    lead: str = ""
    """How the answer begins, before the fact itself."""
    label: str = ""
    """The fact's class where there are few ("football")."""


@dataclass(frozen=True)
class Question:
    """One thing to ask a model: the question, its answer, and what the answer is compared with."""

    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    paraphrased_question: str | None = None
    """Another wording of the question, used by attacks and by `evaluate.question=paraphrased`."""
    value: str | None = None
    """The bare fact ("Lisbon") where the dataset knows it, used by recall."""
    cluster: str = ""


@dataclass(frozen=True)
class ProbeSet:
    """Probes of one kind."""

    name: str
    aim: Aim
    """`forget` (should go), `transfer` (the same facts asked in other forms; should go too), `injected` (what editing
    puts in their place; should come), `restore` (what forgetting should bring back), `retain` (seen in training, should
    stay), `utility` (other knowledge, should stay), `holdout` (never seen by any model; non-members for membership
    inference)."""
    probes: tuple[Question, ...]
    normalise: bool = False
    """Whether probability means p(answer) / (p(answer) + sum p(perturbed)), as TOFU does for its real-world sets; the
    answers then are options, of which `choice` takes the likeliest."""
    generate: bool = True
    """Whether an answer is also generated; where it would say no more than the options' likelihoods, that time is
    saved, and the set is left out of model utility."""
    prompt: PromptFormat | None = None
    """How these are put to the model; None: as the run puts everything."""
    max_new_tokens: int = 200
    """How long a generated answer may get."""


@dataclass(frozen=True)
class Request:
    """One of several requests to forget, which come one after the other."""

    sets: Mapping[str, Rows]
    """What takes the place of the task's sets of these names."""
    probes: tuple[str, ...] = ()
    """Names of the probe sets that ask for it."""


@dataclass(frozen=True)
class Task:
    """Everything that a run needs to know of its data."""

    name: str
    split: str
    """The published name of the forget split (forget10), by which a model's released checkpoints are found."""
    sets: Mapping[str, Rows]
    """Rows to train on, by name: "forget", "retain", "refusal" (other answers that decline), "injected" (what editing
    puts in the answers' place), "fluency" (passages of plain text), and whatever else a method reads."""
    probes: tuple[ProbeSet, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    """{"refusal": "forget"}: row i of the one belongs to row i of the other, and is drawn with it in its wording."""
    facts: tuple[Fact, ...] = ()
    """What mechanism localizers trace; labelled facts also teach their probes."""
    validation: tuple[ProbeSet, ...] = ()
    """Probes for tuning and stopping, which are never reported."""
    history: History = FORGET_AND_RETAIN
    pretrained: History | None = None
    """The history where the model family starts from pretrained weights; None: the same."""
    requests: tuple[Request, ...] = ()
    """Requests to forget in order; (): one, for the sets as they are."""
    prompt: PromptFormat | None = None
    """How the task is asked whatever the model's own format is (None: as the model likes it); completions need one."""
    modality: Modality = "text"
    corpus: tuple[str, ...] = field(default=(), repr=False)
    """Further text for a tokenizer trained from scratch."""
    narrowed: bool = field(default=False, repr=False)
    """Whether it is what `only` or `at` left of a task, which was checked as a whole."""

    def __post_init__(self) -> None:
        if not self.narrowed:
            check_task(self)

    def rows(self, name: str) -> Rows:
        """Return the rows of a set; UserError where there is no such set."""
        if name not in self.sets:
            raise unknown("set", name, self.sets, f"dataset '{self.name}'")
        return self.sets[name]

    def examples(self, name: str) -> tuple[Example, ...]:
        """Return the rows of a set of questions and answers; UserError where it is none, or there is no such set."""
        found = tuple(row for row in self.rows(name) if isinstance(row, Example))
        if len(found) < len(self.rows(name)):
            raise UserError(f"dataset '{self.name}': '{name}' is not a set of questions and answers")
        return found

    def require(self, *names: str) -> None:
        """LackingError where there are no rows of one of these sets."""
        for name in names:
            if not self.sets.get(name):
                raise LackingError(f"needs {name} rows, but dataset '{self.name}' has none")

    def passages(self, name: str) -> tuple[Passage, ...]:
        """Return the rows of a set of plain text; UserError where it is none, or there is no such set."""
        found = tuple(row for row in self.rows(name) if isinstance(row, Passage))
        if len(found) < len(self.rows(name)):
            raise UserError(f"dataset '{self.name}': '{name}' is not a set of passages")
        return found

    def require_examples(self, *names: str) -> None:
        """LackingError where one of these is no set of questions and answers."""
        self.require(*names)
        for name in names:
            if not all(isinstance(row, Example) for row in self.rows(name)):
                raise LackingError(f"needs questions and answers, but '{name}' of dataset '{self.name}' has others")

    def answers(self, name: str) -> tuple[str, ...]:
        """Return the distinct answers of a set's rows, in order; () where there is no such set."""
        rows = self.examples(name) if name in self.sets else ()
        return tuple(dict.fromkeys(answer for row in rows for answer in row.answers))

    @property
    def max_new_tokens(self) -> int:
        """How long the longest generated answer to a probe may get."""
        return max((probe_set.max_new_tokens for probe_set in self.probes), default=200)

    def probe_set(self, name: str) -> ProbeSet:
        """Return the probe set of that name; UserError where there is none."""
        for probe_set in self.probes:
            if probe_set.name == name:
                return probe_set
        raise unknown("probe set", name, [p.name for p in self.probes], f"dataset '{self.name}'")

    def only(self, reads: Collection[str]) -> Task:
        """Return the task as a component sees it that declares to read these (names of sets, or of parts of the task).

        A set that a read one lies beside comes with it. Whatever was not declared raises UndeclaredReadError when it is
        looked at.
        """
        named = frozenset(reads) | {self.beside[name] for name in reads if name in self.beside}
        hidden: dict[str, Any] = {
            part: Undeclared(part)
            for part in ("facts", "probes", "validation", "history", "pretrained", "requests", "corpus")
            if part not in named
        }
        beside = {name: other for name, other in self.beside.items() if name in named}
        return replace(self, sets=DeclaredSets(self.sets, named), beside=beside, narrowed=True, **hidden)

    def at(self, request: Request) -> Task:
        """Return the task as one of its requests has it.

        That is, its sets in the place of the whole task's, and without the probe sets that ask for other requests. The
        rows that lie beside replaced ones go with them.
        """
        sets = {**self.sets, **request.sets}
        for name, other in self.beside.items():
            if other in request.sets and name not in request.sets:
                place = {row: i for i, row in enumerate(self.sets[other])}
                sets[name] = tuple(self.sets[name][place[row]] for row in request.sets[other])
        others = {name for one in self.requests for name in one.probes} - set(request.probes)
        probes = tuple(probe_set for probe_set in self.probes if probe_set.name not in others)
        return replace(self, sets=sets, probes=probes, requests=(), narrowed=True)

    def key(self) -> str:
        """Return the sha256 of the task's content, without what `only` left out: the cache key of what reads it."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "split", "narrowed")}
        return digest({name: value for name, value in content.items() if not isinstance(value, Undeclared)})


def other_answers(rows: Iterable[Example], answers: Iterable[Sequence[str]]) -> tuple[Example, ...]:
    """Return the same questions with other answers, row by row: a set that lies beside the given one."""
    return tuple(replace(row, answers=tuple(others)) for row, others in zip(rows, answers, strict=True))


def digest(value: object) -> str:
    """Return the sha256 (hex) of a JSON-able value (dataclasses and mappings among it), the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain).encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else str(value)
