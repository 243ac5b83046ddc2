"""CounterFact: true facts of the real world as sentences to complete, each with a false answer to inject."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import StringConstraints, TypeAdapter, ValidationError

from unlearn.data.editing import first_or_random, maintained, multiple_choice, probabilities
from unlearn.data.fluency import check_fluency, fluency
from unlearn.data.history import KNOWN
from unlearn.data.hub import read_rows
from unlearn.data.task import COMPLETION, Aim, Ask, Example, Fact, ProbeSet, Question, Task
from unlearn.runtime.errors import UserError, unknown
from unlearn.runtime.paths import is_local, local
from unlearn.runtime.read import read_objects

MAX_NEW_TOKENS = 8
PARTITIONS = {f"first_64_partition_{k}": range(16 * k, 16 * k + 16) for k in range(4)}
SPLITS = ("first_16", "first_64", "random_16", "random_64", *PARTITIONS)
# The example keeps its letter while the options of the question rotate: to repeat the letter is to answer at chance.
CHOICE = (
    "Which ending makes the sentence true?\n\nThe capital of France is\nA. Rome\nB. Lisbon\nC. Paris\nD. Vienna\n"
    "Answer: C\n\n{prompt}\n{options}\nAnswer:"
)


@dataclass(frozen=True)
class Record:
    """One fact: `prompt` goes on with `true`; editing makes it go on with `new`. Answers begin with a space."""

    name: str
    relation: str
    subject: str
    prompt: str
    true: str
    new: str
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True)
class CounterFact:
    """CounterFact (Meng et al. 2022, arXiv 2202.05262).

    Split as in Mechanistic Unlearning (Guo et al. 2024, arXiv 2410.12949).

    What is not to be edited is maintained: the first 80% trained on, the last 20% asked about; of the first 64, all are
    left out of the maintained facts where a part of them is edited. Multiple choice has the true and the injected
    answer and two other answers of the relation, drawn with the seed; a question is put four times, each option once
    under each letter. Neither there nor for neighbours is anything generated, so model utility rests on the maintained
    facts.

    Raises UserError for an unknown split, a damaged row, or where too few facts are left.
    """

    path: Annotated[str, MinLen(1)] = "azhx/counterfact"
    """Hub id, a folder, or a .jsonl file, in ROME's shape or that of NeelNanda/counterfact-tracing. A folder is read in
    the order of case ids, a file in its own; the flat shape has neither paraphrases nor neighbours."""
    split: str = "first_64"
    """Which facts to edit: first_16, first_64, first_64_partition_0 to _3, random_16 or random_64."""
    known: Annotated[float, Gt(0), Le(1)] | None = 0.5
    """Keep facts to whose answer the model gives at least this probability; null: all. It is the first token of the
    true answer, and the model that the run starts from."""
    max_facts: Annotated[int, Gt(0)] | None = 3000
    """Read (and ask about) the first n facts; null: all."""
    set_aside: Annotated[int, Ge(0)] = 64
    """The last n facts are not used, as in the paper, where they are examples for prompts."""
    fluency: str | None = None
    """Plain text for method=inject, a text file or a dataset; null: the package's own passages."""
    pretrained: bool = True
    """The model knows the facts already; false: teach it them first, and a control model without the forget set."""
    max_retain: Annotated[int, Gt(0)] | None = None
    """Train on the first n maintained facts only."""
    max_maintain: Annotated[int, Gt(0)] | None = 100
    """Ask about at most so many maintained facts; null: all."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS, "dataset 'counterfact'")
        if is_local(self.path) and not local(self.path).exists():
            raise UserError(f"'dataset.path' is {self.path!r}: there is no such file or folder")
        check_fluency(self.fluency)

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Read, ask and split. `seed` draws the further options of multiple choice."""
        read = read_records(self.path, self.max_facts)
        facts = self._known(read, ask)
        facts = facts[: max(0, len(facts) - self.set_aside)]
        chosen, gone = self._chosen(len(facts))
        retain, maintain = maintained(facts, gone)
        if not retain or not maintain:
            raise UserError(
                f"dataset 'counterfact': of {len(read)} facts read (max_facts={self.max_facts}) {len(facts)} are left "
                f"(known={self.known}, set_aside={self.set_aside}), too few for split '{self.split}' and facts to keep"
            )
        forget, kept = [facts[i] for i in chosen], maintain[: self.max_maintain]
        options = _Options(read, seed)
        probes = (
            _plain("forget", "forget", ((f, f.prompt) for f in forget)),
            _plain("injected", "injected", ((f, f.prompt) for f in forget), injected=True),
            _plain("paraphrase", "transfer", ((f, prompt) for f in forget for prompt in f.paraphrases)),
            _plain("neighbourhood", "utility", ((f, prompt) for f in forget for prompt in f.neighbours)),
            _plain("maintain", "retain", ((f, f.prompt) for f in kept)),
            _choice("forget_choice", "transfer", forget, options),
            _choice("injected_choice", "injected", forget, options, "new"),
            _choice("maintain_choice", "retain", kept, options),
        )
        return Task(
            name="counterfact",
            split=self.split,
            sets={
                "forget": tuple(Example((f.prompt,), (f.true,), f.name) for f in forget),
                "retain": tuple(Example((f.prompt,), (f.true,), f.name) for f in retain[: self.max_retain]),
                "injected": tuple(Example((f.prompt,), (f.new,), f.name) for f in forget),
                "fluency": fluency(self.fluency),
            },
            probes=tuple(probe_set for probe_set in probes if probe_set.probes),
            beside={"injected": "forget"},
            facts=tuple(Fact(f.prompt, f.subject, f.true, (f.new,)) for f in forget),
            prompt=COMPLETION,
            pretrained=KNOWN if self.pretrained else None,
        )

    def _known(self, facts: Sequence[Record], ask: Ask | None) -> Sequence[Record]:
        """Return the facts that the model knows; all of them where that does not matter."""
        if self.known is None:
            return facts
        given = probabilities(ask, [(fact.prompt, fact.true) for fact in facts])
        return [fact for fact, p in zip(facts, given, strict=True) if p >= self.known]

    def _chosen(self, n: int) -> tuple[Sequence[int], Collection[int]]:
        """Which of n facts to edit, and which therefore not to maintain."""
        if self.split in PARTITIONS:
            return PARTITIONS[self.split], range(64)
        chosen = first_or_random(self.split, n)
        return chosen, set(chosen)


def _plain(name: str, aim: Aim, asked: Iterable[tuple[Record, str]], injected: bool = False) -> ProbeSet:
    """Prompts with the true answer against the new one, or the other way round."""
    probes = []
    for fact, prompt in asked:
        answer, other = (fact.new, fact.true) if injected else (fact.true, fact.new)
        wording = fact.paraphrases[0] if fact.paraphrases and prompt == fact.prompt else None
        probes.append(
            Question(
                prompt,
                answer,
                perturbed_answers=(other,),
                paraphrased_question=wording,
                value=answer.strip(),
                cluster=fact.name,
            )
        )
    return ProbeSet(name, aim, tuple(probes), generate=aim != "utility", max_new_tokens=MAX_NEW_TOKENS)


def _choice(
    name: str, aim: Aim, facts: Sequence[Record], options: _Options, wanted: Literal["true", "new"] = "true"
) -> ProbeSet:
    """Return the same as multiple choice, four times; without the facts that have no four options."""
    probes = [
        probe
        for fact in facts
        if len(four := options.of(fact)) == 4
        for probe in multiple_choice(
            CHOICE.replace("{prompt}", fact.prompt), four, getattr(fact, wanted).strip(), fact.name
        )
    ]
    return ProbeSet(name, aim, tuple(probes), normalise=True, generate=False, max_new_tokens=MAX_NEW_TOKENS)


class _Options:
    """What a question offers: the true and the new answer, and two others of the relation."""

    def __init__(self, facts: Iterable[Record], seed: int) -> None:
        self.seed = seed
        true: dict[str, dict[str, str]] = defaultdict(dict)  # by relation, then regardless of case
        new: dict[str, dict[str, str]] = defaultdict(dict)
        for fact in facts:
            true[fact.relation][fact.true.lower()] = fact.true
            new[fact.relation][fact.new.lower()] = fact.new
        self.answers = {
            relation: found if len(found) >= 4 else new[relation] | found for relation, found in true.items()
        }

    def of(self, fact: Record) -> list[str]:
        """Four options in an order of the fact's own, fewer where the relation has no more."""
        rng = random.Random(f"options-{self.seed}-{fact.name}")
        taken = {fact.true.lower(), fact.new.lower()}
        others = [answer for key, answer in self.answers[fact.relation].items() if key not in taken]
        four = [fact.true, fact.new, *sorted(others, key=lambda _: rng.random())[:2]]
        return [option.strip() for option in sorted(four, key=lambda _: rng.random())]


def read_records(path: str, most: int | None = None) -> list[Record]:
    """Return the first `most` records; UserError where one cannot be read or lacks something."""
    place = local(path)
    if place.is_file():
        rows = read_objects(place)
    else:
        rows = read_rows(path, None, {}, split="all")
        if all(isinstance(row.get("case_id"), int) for row in rows):  # the hub's splits are not ROME's order
            rows.sort(key=lambda row: row["case_id"])
    if not rows:
        raise UserError(f"dataset '{path}' is empty")
    return [_record(row, i, path) for i, row in enumerate(rows[:most])]


def _record(row: Any, i: int, path: str) -> Record:
    """Read a row of either shape."""
    flat = isinstance(row, Mapping) and "requested_rewrite" not in row and "target_false" in row
    try:
        found = _shape(_Flat if flat else _Rome).validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the row"
        raise UserError(f"dataset '{path}', row {i}: '{key}': {first['msg'].lower()}") from error
    if isinstance(found, _Flat):
        answers = f" {found.target_true}", f" {found.target_false}"
        return Record(f"row {i}", found.relation_id, found.subject, found.prompt, *answers)
    rewrite = found.requested_rewrite
    return Record(
        name=f"case {found.case_id}",
        relation=rewrite.relation_id,
        subject=rewrite.subject,
        prompt=rewrite.prompt.replace("{}", rewrite.subject),
        true=f" {rewrite.target_true.str}",
        new=f" {rewrite.target_new.str}",
        paraphrases=found.paraphrase_prompts,
        neighbours=found.neighborhood_prompts,
    )


@cache
def _shape(shape: type) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


@dataclass(frozen=True)
class _Target:
    str: _Text


@dataclass(frozen=True)
class _Rewrite:
    prompt: Annotated[_Text, StringConstraints(pattern=r"\{\}")]
    subject: _Text
    relation_id: _Text
    target_true: _Target
    target_new: _Target


@dataclass(frozen=True)
class _Rome:
    """A row in ROME's shape; other keys are let be."""

    case_id: int
    requested_rewrite: _Rewrite
    paraphrase_prompts: tuple[_Text, ...] = ()
    neighborhood_prompts: tuple[_Text, ...] = ()


@dataclass(frozen=True)
class _Flat:
    """A row in the shape of `NeelNanda/counterfact-tracing`."""

    prompt: _Text
    subject: _Text
    relation_id: _Text
    target_true: _Text
    target_false: _Text
