"""From question and answer to token ids: the model's chat template, or plain tags around the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt + answer. Tokens from position `n_prompt` on are the labels (EOS included)."""

    ids: tuple[int, ...]
    n_prompt: int


@dataclass(frozen=True)
class PromptFormat:
    """How a question is put to a model.

    Without the chat template the prompt is system + user_start + question + user_end + answer_start, tokenised with the
    tokenizer's own special tokens. Labels are split off by count, as published models were trained: the first
    len(prompt ids) positions of the full sequence are unlabelled, also where the last of them merges the prompt's
    trailing space with the answer's first word.
    """

    version: ClassVar[int] = 1

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
        questions = list(dict.fromkeys(question for question, _ in pairs))
        n_prompt = {q: len(ids) for q, ids in zip(questions, self.encode_prompts(tokenizer, questions), strict=True)}
        eos = tokenizer.eos_token_id if self.eos else None
        rows = []
        for (question, answer), ids in zip(pairs, self._ids(tokenizer, pairs), strict=True):
            if eos is not None and ids[-1] != eos:
                ids = [*ids, eos]
            cut = not self.chat_template and n_prompt[question] >= self.max_tokens
            if cut or len(ids) <= n_prompt[question]:
                raise UserError(
                    f"no answer token is left of {answer[:60]!r} after its prompt of {n_prompt[question]} tokens: "
                    f"raise max_tokens ({self.max_tokens}) of the model's prompt"
                )
            rows.append(Encoded(tuple(ids), n_prompt[question]))
        return rows

    def encode_prompt(self, tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
        """Ids of the prompt alone, up to where the answer begins."""
        return self.encode_prompts(tokenizer, [question])[0]

    def encode_prompts(self, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[list[int]]:
        """`encode_prompt` of many questions in one tokenizer call."""
        return self._ids(tokenizer, [(question, None) for question in questions])

    def _ids(self, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str | None]]) -> list[list[int]]:
        """Ids of question + answer; of the prompt alone where the answers are None (all of them or none)."""
        if not pairs:
            return []
        if not self.chat_template:
            start, end = self.system + self.user_start, self.user_end + self.answer_start
            texts = [start + question + end + (answer or "") for question, answer in pairs]
            found: list[list[int]] = tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
            return found
        from jinja2 import TemplateError

        extra: dict[str, Any] = {"date_string": self.date} if self.date else {}
        chats = [self._messages(question, answer) for question, answer in pairs]
        try:
            ids: Any = tokenizer.apply_chat_template(
                chats, tokenize=True, add_generation_prompt=pairs[0][1] is None, return_dict=False, **extra
            )
        except (ValueError, TemplateError) as error:  # there is none, or it knows no system prompt
            raise UserError(f"cannot use the tokenizer's chat template, try another model.prompt ({error})") from error
        listed: list[list[int]] = ids
        return listed

    def _messages(self, question: str, answer: str | None) -> list[dict[str, str]]:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": question})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return messages


PASSAGE_TOKENS = 100  # of a passage of plain text are trained on (Guo et al. 2024, Mechanistic Unlearning)


def encode_passage(tokenizer: PreTrainedTokenizerBase, text: str) -> Encoded:
    """Ids of a passage that keeps a model fluent: its first tokens, all but the very first labelled."""
    return encode_text(tokenizer, text, separator="", max_tokens=PASSAGE_TOKENS)


def encode_text(
    tokenizer: PreTrainedTokenizerBase, text: str, prefix: str = "", separator: str = " ", max_tokens: int = 2048
) -> Encoded:
    """Ids of a passage: prefix + separator + text, where the prefix (or, without one, the first token) is unlabelled.

    No EOS is added. `max_tokens` counts the tokens after the prefix. Raises UserError where no token is left to score.
    """
    n_prefix = len(tokenizer(prefix)["input_ids"])
    ids = tokenizer(prefix + separator + text)["input_ids"][: n_prefix + max_tokens]
    n_prompt = max(n_prefix, 1)
    if len(ids) <= n_prompt:
        raise UserError(f"no token is left to score of the text {text[:60]!r}")
    return Encoded(tuple(ids), n_prompt)
