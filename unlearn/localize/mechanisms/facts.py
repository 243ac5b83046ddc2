"""Encode facts as token ids: the prompt, where its subject stands, the answer's first token; and prompts without it."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from unlearn.models.prompts import collate
from unlearn.models.sites import logits_at
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import notify
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Fact, Task
    from unlearn.models.subject import Subject

TRIES = 100
LEAST_EFFECT = 0.01  # of a probability: what destroying the subject does, or effects on it are noise
LEAST_GAP = 0.1  # the same of logits
Span = tuple[int, int]


@dataclass(frozen=True)
class EncodedFact:
    """A fact as the model reads it."""

    ids: tuple[int, ...]
    """The prompt, up to the token before the answer's first: its last position predicts the answer."""
    entity: Span
    """The tokens of the subject, half-open, where it is named last, be it in the question or in the answer's lead."""
    answer: int
    """The answer's first token."""
    foils: tuple[int, ...]
    """First tokens of wrong answers; those that begin as the answer does are left out."""
    label: str = ""
    """The fact's class, "" for none."""
    earlier: tuple[Span, ...] = ()
    """The places where the subject is named before."""

    @property
    def mentions(self) -> tuple[Span, ...]:
        """Return all places where the subject is named; who destroys it destroys all of them."""
        return *self.earlier, self.entity

    @property
    def position(self) -> int:
        """Return where the answer is predicted: the prompt's last token."""
        return len(self.ids) - 1


def check_facts(task: Task, foils: bool = False) -> None:
    """Raise a UserError where the task has no facts with a marked subject (with foils: none with wrong answers too)."""
    wanted = "facts with their subjects and wrong answers" if foils else "facts with their subjects"
    if not any(fact.foils or not foils for fact in task.facts):
        raise UserError(
            f"dataset '{task.name}' has no {wanted}, which this localizer traces "
            "(allowed: a dataset of facts, as sports_facts or counterfact)"
        )


def encode_facts(subject: Subject, task: Task, most: int | None = None) -> list[EncodedFact]:
    """Return the task's first `most` facts (all for None), put as the subject's prompt format says.

    UserError where the tokenizer cannot tell which characters a token stands for.
    """
    facts, tokenizer = task.facts[:most], subject.processor
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} does not know where its tokens stand in a text (no fast tokenizer)"
        )
    return [_encode(tokenizer, subject.prompt, fact) for fact in facts]


def answered(subject: Subject, facts: Sequence[EncodedFact]) -> list[EncodedFact]:
    """Return those of the facts whose answer's first token is the model's first choice."""

    def choices(batch: list[EncodedFact]) -> list[int]:
        inputs = collate([fact.ids for fact in batch], subject.module.device)
        with torch.no_grad():
            found: list[int] = logits_at(subject.module, inputs.ids, inputs.index).argmax(-1).tolist()
            return found

    first = map_batches(choices, facts, lambda fact: len(fact.ids), subject.token_budget)
    return [fact for fact, token in zip(facts, first, strict=True) if token == fact.answer]


def corrupt_facts(facts: Sequence[EncodedFact], tokenizer: Any, seed: int) -> list[EncodedFact]:
    """Return the same prompts with random tokens in the place of every token of the subject's, the length kept.

    The tokens are drawn from those that decode to ASCII, again and again (up to 100 times) until their text is as many
    tokens long. What is drawn for a fact depends on the seed, its prompt and its subject's place alone.
    """
    vocabulary = torch.tensor(_ascii_tokens(tokenizer))

    def draw(length: int, generator: torch.Generator) -> list[int]:
        for _ in range(TRIES):
            drawn = vocabulary[torch.randint(len(vocabulary), (length,), generator=generator)].tolist()
            if len(tokenizer(tokenizer.decode(drawn), add_special_tokens=False)["input_ids"]) == length:
                break
        return drawn

    corrupted = []
    for fact in facts:
        generator, ids = seeded(seed, fact), list(fact.ids)
        for start, stop in fact.mentions:
            ids[start:stop] = draw(stop - start, generator)
        corrupted.append(replace(fact, ids=tuple(ids)))
    return corrupted


def seeded(seed: int, fact: EncodedFact) -> torch.Generator:
    """Return a generator for (seed, prompt, subject): what is drawn for a fact does not depend on the other facts."""
    digest = hashlib.sha256(repr((seed, fact.ids, fact.mentions)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def signal(effect: float, least: float, measured: str) -> float:
    """Return what destroying the subjects does, which others' effects are shares of; below `least` say so: nan."""
    if effect >= least:
        return effect
    notify(f"the facts' answers hardly depend on their subjects ({measured} {effect:+.3g}): what follows is noise")
    return math.nan


def _encode(tokenizer: Any, prompt: PromptFormat, fact: Fact) -> EncodedFact:
    asked, question = _asked(tokenizer, prompt, fact)

    def tokens(answer: str) -> tuple[list[int], list[Span], str, int]:
        """Return the exchange's ids and character spans, the text before the answer, the token of its first letter."""
        begun = fact.lead + answer
        text = asked + (begun.lstrip() if prompt.chat_template else begun)  # as chat templates do
        words = tokenizer(text, add_special_tokens=not prompt.chat_template, return_offsets_mapping=True)
        spans, letter = words["offset_mapping"], len(text) - len(answer.lstrip())
        return words["input_ids"], spans, text[:letter], _overlapping(spans, letter, letter + 1)[0]

    ids, spans, text, n = tokens(fact.answer)
    mentions = []
    for named in re.finditer(re.escape(fact.entity), text[question:]):
        found = _overlapping(spans, question + named.start(), question + named.end())
        mentions.append((found[0], found[-1] + 1))
    foils = dict.fromkeys(other[at] for other, _, _, at in map(tokens, fact.foils))
    return EncodedFact(
        ids=tuple(ids[:n]),
        entity=mentions[-1],
        answer=ids[n],
        foils=tuple(token for token in foils if token != ids[n]),
        label=fact.label,
        earlier=tuple(mentions[:-1]),
    )


def _asked(tokenizer: Any, prompt: PromptFormat, fact: Fact) -> tuple[str, int]:
    """Return the prompt as text, up to where the answer begins, and at which character of it the question begins."""
    before, question, end = prompt.system + prompt.user_start, fact.prompt, prompt.user_end + prompt.answer_start
    if prompt.chat_template:
        text = prompt.prompt_text(tokenizer, question)
        question = question.strip()  # as many templates do
        before, found, end = text.rpartition(question)
        if not found:
            raise UserError(
                f"the tokenizer's chat template changes the text of a prompt: {question[:60]!r} is not in it"
            )
    return before + question + end, len(before)


def _overlapping(spans: Sequence[Span], begin: int, end: int) -> list[int]:
    """Return the tokens with a character of begin:end; special tokens span none."""
    return [i for i, (first, last) in enumerate(spans) if max(first, begin) < min(last, end)]


def _ascii_tokens(tokenizer: Any) -> list[int]:
    """Return ids of tokens whose text is ASCII and not blank, special tokens left out."""
    special = set(tokenizer.all_special_ids)
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return [i for i, text in enumerate(texts) if i not in special and text.isascii() and text.strip()]
