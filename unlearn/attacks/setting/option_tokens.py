"""Where the options of a choice part ways: the text that they share, and the token with which each goes on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from unlearn.attacks.setting.answer_metric import options_of
from unlearn.attacks.setting.answer_tokens import AnswerToken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Question


@dataclass(frozen=True)
class OptionTokens(AnswerToken):
    """The place where the options of a choice part ways; `token` is the answer's there."""

    options: tuple[int, ...]
    """Each option's token there, the answer's first."""


def option_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, probes: Sequence[Question]
) -> list[OptionTokens]:
    """Return for each probe the question, the words with which all options begin, and the token that each has next.

    Options in other words than the answer part ways where they begin; some may go on with the same token.
    """
    found = []
    for probe in probes:
        pairs = [(probe.question, option) for option in options_of(probe)]
        rows = [row.ids for row in prompt.encode_all(tokenizer, pairs)]
        alike = sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False)))
        n = min(alike, *(len(row) - 1 for row in rows))  # an option may be the beginning of another
        tokens = tuple(row[n] for row in rows)
        found.append(OptionTokens(rows[0][:n], tokens[0], tokens))
    return found
