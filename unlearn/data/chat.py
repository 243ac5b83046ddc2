"""What a chat template writes around an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANSWER = "\ue000"  # stands for an answer: a character that no template writes or trims


@dataclass(frozen=True)
class ChatFrame:
    """The text around the answers to a question."""

    prompt: str
    """What the model is asked: all before the answer."""
    after: str = ""
    """What the template writes after an answer."""
    end: str = ""
    """The part of that which ends it: up to its EOS, else the first special token; "" where it has neither."""


Messages = Sequence[dict[str, str]]


def chat_frame(tokenizer: PreTrainedTokenizerBase, messages: Messages, date: str | None) -> ChatFrame:
    """Return the text around the answers to a question, the last of the messages.

    A model is asked as it is taught: the prompt is the one that the template writes to generate from, unless its rows
    have something else before their answers (an empty think block, or none where generation begins with one); then it
    is what they have.
    """
    asked = render(tokenizer, messages, None, date)
    before, found, after = render(tokenizer, messages, _ANSWER, date).rpartition(_ANSWER)
    if not found:
        raise UserError("cannot use the tokenizer's chat template: it leaves out the answer; try another model.prompt")
    begun = before.startswith(asked) and not before[len(asked) :].strip()
    return ChatFrame(asked if begun else before, after, _end(tokenizer, after))


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: str | None, date: str | None) -> str:
    """Return the exchange as the tokenizer's chat template has it, up to where to answer where there is no answer.

    UserError where there is no template, or it takes no such messages.
    """
    from jinja2 import TemplateError

    chat = [*messages] if answer is None else [*messages, {"role": "assistant", "content": answer}]
    extra: dict[str, Any] = {"date_string": date} if date else {}
    try:
        text: Any = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer is None, **extra)
    except (ValueError, TemplateError) as error:  # there is none, or it knows no system prompt
        raise UserError(f"cannot use the tokenizer's chat template, try another model.prompt ({error})") from error
    return str(text)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the tokenizer's special tokens by id, also those without a role, as what ends a chat model's turns."""
    marked = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _end(tokenizer: PreTrainedTokenizerBase, after: str) -> str:
    eos = tokenizer.eos_token
    if eos and eos in after:
        return after[: after.index(eos) + len(eos)]
    ends = [after.index(token) + len(token) for token in special_tokens(tokenizer).values() if token in after]
    return after[: min(ends)] if ends else ""
