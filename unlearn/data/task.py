"""What every dataset gives: examples to train on (forget, retain) and probes to ask afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from unlearn.data.prompt import PromptFormat
from unlearn.runtime.errors import UserError

Aim = Literal["forget", "transfer", "injected", "retain", "utility", "holdout"]
COMPLETION = PromptFormat(chat_template=False, eos=False)  # the text as it is; the answer is how it goes on
Ask = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""From (prompt, answer) pairs, put as COMPLETION, to the probability that the model which the run starts from gives to
the first token of each answer. Datasets that keep only what a model knows are given one."""


@dataclass(frozen=True)
class Example:
    """A question and its answer, in one or more wordings; training draws one of each per visit.

    `cluster` names what the fact is about (a TOFU author): rows of one cluster are not independent. `injected` is the
    answer that editing puts in the place of the true one.
    """

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    cluster: str = ""
    injected: str | None = None


@dataclass(frozen=True)
class Fact:
    """A fact as localizers look for it inside a model: asked `prompt`, it answers `lead` + `answer`.

    subject: what the fact is about, as written in prompt and maybe in lead (its last mention counts). lead: how the
    answer begins, before the fact itself. answer: the fact, with the space before it where it has one; its first token
    is what is looked at. foils: wrong answers in the same form. label: the fact's class where there are few
    ("football"), else "".
    """

    prompt: str
    entity: str
    answer: str
    foils: tuple[str, ...] = ()
    lead: str = ""
    label: str = ""


@dataclass(frozen=True)
class Probe:
    """One thing to ask a model: the question, its answer, and what the answer is compared with.

    `value` is the bare fact ("Lisbon") where the dataset knows it, used by recall; `paraphrased_question` is another
    wording of the question, used by attacks and by `evaluate.question=paraphrased`.
    """

    question: str
    answer: str
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    paraphrased_question: str | None = None
    value: str | None = None
    cluster: str = ""


@dataclass(frozen=True)
class ProbeSet:
    """Probes of one kind.

    role: `forget` (should go), `transfer` (the same facts asked in other forms; should go too), `injected` (what
    editing puts in their place; should come), `retain` (seen in training, should stay), `utility` (other knowledge,
    should stay), `holdout` (never seen by any model; non-members for membership inference).
    normalise: whether probability means p(answer) / (p(answer) + sum p(perturbed)), as TOFU does for its real-world
    sets; the answers then are options, of which `choice` takes the likeliest. generate: whether an answer is also
    generated; where it would say no more than the options' likelihoods, that time is saved, and the set is left out of
    model utility.
    """

    name: str
    aim: Aim
    probes: tuple[Probe, ...]
    normalise: bool = False
    generate: bool = True


@dataclass(frozen=True)
class Task:
    """Everything that a run needs to know of its data.

    forget + retain is what the original model was trained on, retain alone is what the control model saw.
    refusals: "I don't know"-like answers for preference methods. max_new_tokens: how long a generated answer may get.
    split: the published name of the forget split (forget10), by which a model's released checkpoints are found.
    facts: what mechanism localizers trace; labelled facts also teach their probes. fluency: plain text that editing
    trains on beside the facts. prompt: how the task is asked whatever the model's own format is (None: as the model
    likes it); bare completions need one. pretrained: a pretrained model knows the task as it is, so it is the target
    itself and there is no control model.
    """

    name: str
    split: str
    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    probes: tuple[ProbeSet, ...]
    refusals: tuple[str, ...] = ()
    max_new_tokens: int = 200
    facts: tuple[Fact, ...] = ()
    fluency: tuple[str, ...] = ()
    prompt: PromptFormat | None = None
    pretrained: bool = False
    corpus: tuple[str, ...] = field(default=(), repr=False)  # further text for a tokenizer trained from scratch

    def __post_init__(self) -> None:
        for part, examples in (("forget", self.forget), ("retain", self.retain)):
            if not examples:
                raise UserError(f"dataset '{self.name}' ({self.split}) has no {part} rows")
            for i, example in enumerate(examples):
                if not all(text.strip() for text in (*example.questions, *example.answers)):
                    raise UserError(
                        f"dataset '{self.name}' ({self.split}): {part} row {i} has an empty question or answer"
                    )
        for i, fact in enumerate(self.facts):
            if not fact.entity or fact.entity not in fact.prompt:
                raise UserError(f"dataset '{self.name}': the prompt of fact {i} does not name its subject")
        for probe_set in self.probes:
            for i, probe in enumerate(probe_set.probes):
                if not all(text.strip() for text in (probe.question, probe.answer, *probe.perturbed_answers)):
                    raise UserError(
                        f"dataset '{self.name}': probe row {i} of '{probe_set.name}' has an empty question or answer"
                    )

    @property
    def full(self) -> tuple[Example, ...]:
        """What the original model is trained on."""
        return self.retain + self.forget

    def probe_set(self, name: str) -> ProbeSet:
        """The probe set of that name; UserError where there is none."""
        for probe_set in self.probes:
            if probe_set.name == name:
                return probe_set
        from unlearn.runtime.errors import unknown

        raise unknown("probe set", name, [p.name for p in self.probes], f"dataset '{self.name}'")

    def fingerprint(self, *parts: str) -> str:
        """sha256 of the named parts' content (all of it where none is named): the cache key of what depends on them."""
        content = asdict(self)
        return digest({part: content[part] for part in parts or content})


def digest(value: object) -> str:
    """sha256 (hex) of a JSON-able value, the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def all_texts(task: Task) -> Iterable[str]:
    """Every text of the task once, in order: the corpus of a tokenizer trained from scratch.

    Injected answers and fluency text are not in it: a byte-level tokenizer can write them, and what one method reads
    should not change every method's model.
    """
    seen: set[str] = set()
    texts = [text for e in task.full for text in (*e.questions, *e.answers)]
    for probe_set in task.probes:
        for p in probe_set.probes:
            texts += [
                p.question,
                p.answer,
                p.paraphrased_answer or "",
                p.paraphrased_question or "",
                *p.perturbed_answers,
            ]
    for text in [*texts, *task.refusals, *task.corpus]:
        if text and text not in seen:
            seen.add(text)
            yield text
