"""From question and answer to token ids: the model's chat template, or plain tags around the two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from unlearn.data.chat import ChatFrame, chat_frame, render, special_tokens
from unlearn.data.tokens import overlapping, split_ids, token_ids
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """A row as token ids."""

    ids: tuple[int, ...]
    """Prompt + answer, or a passage."""
    n_prompt: int
    """How many of them are the prompt; all others are labels (EOS included)."""
    spans: tuple[int, ...] | None = None
    """Positions of the labels where they are some of the others only; None: all of them."""
    opening: int | None = None
    """How many first tokens the gates of interventions see; None: the prompt."""

    @property
    def labelled(self) -> Sequence[int]:
        """Return the positions of the labels; nothing predicts the first token, which is none."""
        return range(max(1, self.n_prompt), len(self.ids)) if self.spans is None else self.spans

    @property
    def seen(self) -> int:
        """Return how many first tokens the gates of interventions see."""
        return self.n_prompt if self.opening is None else self.opening


@dataclass(frozen=True)
class PromptFormat:
    """How a question is put to a model.

    Without the chat template the prompt is system + user_start + question + user_end + answer_start, tokenised with the
    tokenizer's own special tokens. A row's labels are its answer and the end of it: they begin at the first token that
    the row does not have in common with its prompt, also where that token joins the prompt's last space and the
    answer's first word, and no text of the template is among them.
    """

    version: ClassVar[int] = 2

    chat_template: bool = True
    """Use the tokenizer's own template."""
    system: str = ""
    """System prompt (with tags: text before the question). An empty one is none."""
    date: str | None = None
    """Told to templates that print a date, so that prompts never change. It is passed on as `date_string`."""
    user_start: str = ""
    """Before the question."""
    user_end: str = ""
    """After the question."""
    answer_start: str = ""
    """Before the answer."""
    eos: bool = True
    """The answer ends with EOS. It is appended where the last token is not already EOS; without it an answer is the
    beginning of what follows, as in a completion."""
    max_tokens: Annotated[int, Gt(0)] = 512
    """Rows with tags are cut here; chat rows never are. EOS is added after the cut."""

    def encode(self, tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Encoded:
        """Ids of the whole exchange. Raises UserError where no answer token is left to learn or to score."""
        return self.encode_all(tokenizer, [(question, answer)])[0]

    def encode_all(self, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """`encode` of many (question, answer) pairs at once: one tokenizer call, each question's prompt once."""
        frames = self._frames(tokenizer, [question for question, _ in pairs])
        texts = [(frames[q].prompt, self._row(tokenizer, frames[q], q, answer)) for q, answer in pairs]
        rows = split_ids(tokenizer, texts, special=not self.chat_template)
        ends = {*special_tokens(tokenizer)} - {tokenizer.unk_token_id} | {tokenizer.eos_token_id}
        return [
            self._labelled(ids[: self._most], n_prompt, answer, tokenizer.eos_token_id, ends)
            for (ids, n_prompt), (_, answer) in zip(rows, pairs, strict=True)
        ]

    def encode_prompt(self, tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
        """Ids of the prompt alone, up to where the answer begins."""
        return self.encode_prompts(tokenizer, [question])[0]

    def encode_prompts(self, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
        """`encode_prompt` of many questions in one tokenizer call."""
        frames = self._frames(tokenizer, questions)
        texts = [frames[question].prompt for question in questions]
        return [ids[: self._most] for ids in token_ids(tokenizer, texts, special=not self.chat_template)]

    def prompt_text(self, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
        """Return the prompt as text, up to where the answer begins."""
        return self._frames(tokenizer, [question])[question].prompt

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return what comes before the answer, as chat templates take it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": question}]

    def tagged(self, question: str) -> str:
        """Return what comes before the answer, with tags."""
        return self.system + self.user_start + question + self.user_end + self.answer_start

    def _frames(self, tokenizer: PreTrainedTokenizerBase, questions: Iterable[str]) -> dict[str, ChatFrame]:
        """Return what stands around the answers to each question."""
        distinct = dict.fromkeys(questions)
        if not self.chat_template:
            return {question: ChatFrame(self.tagged(question)) for question in distinct}
        return {question: chat_frame(tokenizer, self.messages(question), self.date) for question in distinct}

    def _row(self, tokenizer: PreTrainedTokenizerBase, frame: ChatFrame, question: str, answer: str) -> str:
        """Return the text of the whole exchange, without EOS where there are tags."""
        if not self.chat_template:
            return frame.prompt + answer
        text = render(tokenizer, self.messages(question), answer, self.date)
        return text.removesuffix(frame.after) + (frame.end if self.eos else "")

    @property
    def _most(self) -> int | None:
        """Return how many tokens a row may have before EOS."""
        return None if self.chat_template else self.max_tokens

    def _labelled(self, ids: list[int], n_prompt: int, answer: str, eos: int | None, ends: set[int | None]) -> Encoded:
        """Return a row with its labels and EOS; UserError where there are only tokens among them that end answers."""
        cut, n_prompt = len(ids) == self._most, max(1, n_prompt)
        if self.eos and eos is not None and (not ids or ids[-1] != eos):
            ids = [*ids, eos]
        if not set(ids[n_prompt:]) - ends:
            hint = f": raise max_tokens ({self.max_tokens}) of the model's prompt" if cut else ""
            raise UserError(f"no answer token is left of {answer[:60]!r} after its prompt of {n_prompt} tokens{hint}")
        return Encoded(tuple(ids), n_prompt)


PASSAGE_TOKENS = 100  # of a passage of plain text are trained on (Guo et al. 2024, Mechanistic Unlearning)


OPENING = 32  # tokens of a passage that a gate sees: as many as a question has


def encode_passage(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoded:
    """Ids of a passage that keeps a model fluent: its first tokens, all but the very first labelled."""
    return encode_text(tokenizer, text, separator="", max_tokens=PASSAGE_TOKENS)


def encode_text(
    tokenizer: PreTrainedTokenizerBase, text: str, prefix: str = "", separator: str = " ", max_tokens: int = 2048
) -> Encoded:
    """Ids of a passage: prefix + separator + text, where the prefix (or, without one, the first token) is unlabelled.

    No EOS is added. `max_tokens` counts the tokens after the prefix. Raises UserError where no token is left to score.
    Without a prefix the gates of interventions see the passage's OPENING: what a model is given of a text that it is
    to go on with. A single token tells no text from another, and of what comes later a gate may not know.
    """
    ((ids, n_prefix),) = split_ids(tokenizer, [(prefix, prefix + separator + text)])
    n_prompt = max(n_prefix, 1)
    ids = ids[: n_prefix + max_tokens]
    if len(ids) <= n_prompt:
        raise UserError(f"no token is left to score of the text {text[:60]!r}")
    return Encoded(tuple(ids), n_prompt, opening=None if prefix else min(OPENING, len(ids)))


def encode_spans(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[tuple[int, int]], max_tokens: int = 2048
) -> Encoded:
    """Ids of a passage of which only the tokens that overlap one of the spans are labels, without the very first.

    spans: [start, end) in characters; without any all tokens are labels. Raises UserError where no label is left.
    """
    row = encode_text(tokenizer, text, separator="", max_tokens=max_tokens)
    if not spans:
        return row
    labels = tuple(i for i in overlapping(tokenizer, text, spans) if 0 < i < len(row.ids))
    if not labels:
        raise UserError(f"no token of its spans is among the first {max_tokens} of the text {text[:60]!r}")
    return replace(row, spans=labels)
