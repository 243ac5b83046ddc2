"""Where an answer says the fact: the text up to there, and the token that begins it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Question


@dataclass(frozen=True)
class AnswerToken:
    """The place where an answer says its fact."""

    ids: tuple[int, ...]
    """The question and what the answer says before the fact; the last position predicts it."""
    token: int
    """The fact's first token."""


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, probes: Sequence[Question]
) -> list[AnswerToken]:
    """Return for each probe where its bare value begins, where the answer has it, else where the answer begins.

    The words before the value ("She was born in") are given: they are the form of the answer, which any model that
    knows such questions has learnt.
    """
    leads = [_lead(probe) for probe in probes]
    whole = prompt.encode_all(tokenizer, [(probe.question, probe.answer) for probe in probes])
    asked = prompt.encode_prompts(tokenizer, [probe.question for probe in probes])
    begun = iter(
        prompt.encode_all(tokenizer, [(p.question, lead) for p, lead in zip(probes, leads, strict=True) if lead])
    )
    found = []
    for row, question, lead in zip(whole, asked, leads, strict=True):
        alike = _alike(row.ids, next(begun).ids if lead else question)
        # The question's last space may be one token with the answer's first word; a template may end otherwise.
        n = min(alike if alike >= row.n_prompt - 1 else row.n_prompt, len(row.ids) - 1)
        found.append(AnswerToken(row.ids[:n], row.ids[n]))
    return found


def _alike(these: Sequence[int], those: Sequence[int]) -> int:
    """Return how many tokens the two have in common from the start."""
    pairs = zip(these, those, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _lead(probe: Question) -> str:
    """Return the answer up to its bare value; "" where it has none."""
    before, value, _ = probe.answer.partition(probe.value or probe.answer)
    return before.rstrip() if value else ""
