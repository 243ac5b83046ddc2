"""Where answers begin and end, with the habits of real tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tokenizers_with_habits as habits

from unlearn.data.prompt import Encoded, PromptFormat, encode_passage, encode_text
from unlearn.data.tokens import overlapping, token_ids
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TAGS = PromptFormat(False, "", None, "Question: ", "\n", "Answer: ")
CHAT = PromptFormat()


def labels(tokenizer: PreTrainedTokenizerFast, row: Encoded) -> str:
    return str(tokenizer.decode(list(row.ids[row.n_prompt :])))


def test_a_token_that_joins_prompt_and_answer_is_labelled() -> None:
    tokenizer = habits.byte_bpe()
    assert tokenizer.tokenize("Answer: Paris")[-1] == "\u0120Paris"  # one token
    row = TAGS.encode(tokenizer, "Where?", "Paris")
    assert labels(tokenizer, row) == " Paris</s>"
    assert len(row.ids) - row.n_prompt == 2


@pytest.mark.parametrize("around", ["<s> $A </s>", "$A </s>"])
def test_an_eos_that_the_tokenizer_adds_is_none_of_the_prompt(around: str) -> None:
    plain = habits.adding(habits.byte_bpe(), around.removesuffix(" </s>"))
    adding = habits.adding(habits.byte_bpe(), around)
    for form in (TAGS, PromptFormat(False, eos=False), PromptFormat(False, user_end="\n", max_tokens=9)):
        pair = ("Where?", "Paris, or Lyon")
        assert form.encode_prompt(adding, pair[0]) == form.encode_prompt(plain, pair[0])
        assert form.encode(adding, *pair) == form.encode(plain, *pair)
    assert encode_passage(adding, "Paris, Lyon") == encode_passage(plain, "Paris, Lyon")
    assert encode_text(adding, "Paris", "Where?") == encode_text(plain, "Paris", "Where?")
    assert adding.eos_token_id not in encode_text(adding, "Paris", "Where?").ids


def test_a_bos_that_is_also_eos_stays() -> None:
    tokenizer = habits.adding(habits.byte_bpe(eos="<s>"), "<s> $A")
    row = encode_passage(tokenizer, "Paris")
    assert tokenizer.convert_ids_to_tokens(list(row.ids)) == ["<s>", "Paris"]
    assert row.n_prompt == 1
    assert TAGS.encode(tokenizer, "Where?", "Paris").ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("template", "asked", "answered"),
    [
        (habits.CHATML, "<|im_start|>assistant\n", "Paris<|im_end|>"),
        (habits.EMPTY_THINKING, "<|im_start|>assistant\n<think>\n\n</think>\n\n", "Paris<|im_end|>"),
    ],
)
def test_labels_hold_no_text_of_the_template(template: str, asked: str, answered: str) -> None:
    tokenizer = habits.byte_bpe(template, eos="<|im_end|>")
    row = CHAT.encode(tokenizer, "Where?", "Paris")
    assert labels(tokenizer, row) == answered
    question = "<|im_start|>user\nWhere?<|im_end|>\n"
    assert tokenizer.decode(CHAT.encode_prompt(tokenizer, "Where?")) == question + asked
    assert tokenizer.decode(list(row.ids[: row.n_prompt])) == question + asked


@pytest.mark.parametrize(
    ("template", "asked", "answered"),
    [
        (habits.THINKS, "<|user|>Where?<|assistant|>", "Paris</s>"),
        (habits.TURNS, "<s><|user|>user\nWhere?<end_of_turn>\n<|user|>assistant\n", "Paris<end_of_turn></s>"),
        (habits.ENDS, "Where?</s>", "Paris</s>"),
    ],
)
def test_a_model_is_asked_as_its_rows_begin(template: str, asked: str, answered: str) -> None:
    tokenizer = habits.byte_bpe(template)
    row = CHAT.encode(tokenizer, "Where?", "Paris")
    assert tokenizer.decode(CHAT.encode_prompt(tokenizer, "Where?")) == asked
    assert CHAT.encode_prompt(tokenizer, "Where?") == list(row.ids[: row.n_prompt])
    assert labels(tokenizer, row) == answered


def test_an_answer_that_the_template_also_writes_is_found() -> None:
    tokenizer = habits.byte_bpe(habits.CHATML, eos="<|im_end|>")
    for answer in ("im", "assistant", "<think>"):
        assert labels(tokenizer, CHAT.encode(tokenizer, "assistant im?", answer)) == f"{answer}<|im_end|>"


def test_a_space_of_the_template_may_be_part_of_the_answer() -> None:
    tokenizer = habits.pieces(habits.BRACKETS)
    row = CHAT.encode(tokenizer, "Where?", "Paris")
    assert tokenizer.convert_ids_to_tokens(list(row.ids[row.n_prompt :]))[0].startswith("\u2581")
    assert labels(tokenizer, row).split() == ["Paris", "</s>"]
    assert CHAT.encode_prompt(tokenizer, "Where?") == list(row.ids[: row.n_prompt])


def test_without_eos_a_chat_answer_ends_with_its_text() -> None:
    tokenizer = habits.byte_bpe(habits.CHATML, eos="<|im_end|>")
    assert labels(tokenizer, PromptFormat(eos=False).encode(tokenizer, "Where?", "Paris")) == "Paris"


def test_tag_rows_are_cut_at_their_end_whatever_side_the_tokenizer_cuts() -> None:
    right, left = habits.byte_bpe(), habits.byte_bpe()
    left.truncation_side = "left"
    form = PromptFormat(False, user_end="\n", max_tokens=9)
    assert form.encode(left, "Where?", "Paris, Lyon, Paris") == form.encode(right, "Where?", "Paris, Lyon, Paris")


def test_rows_of_which_only_eos_would_be_labelled_are_refused() -> None:
    tokenizer = habits.folding()
    form = PromptFormat(False, user_end=" ")
    assert labels(tokenizer, form.encode(tokenizer, "Where?", "Paris")) == "paris </s>"
    assert labels(tokenizer, form.encode(tokenizer, "Where?", "Oslo")) == "<unk> </s>"  # one that it does not know
    with pytest.raises(UserError, match="no answer token is left"):
        form.encode(tokenizer, "Where?", "\u3000")


def test_a_template_without_answers_is_refused() -> None:
    tokenizer = habits.byte_bpe("{{ messages[0].content }}")
    with pytest.raises(UserError, match="leaves out the answer"):
        CHAT.encode(tokenizer, "Where?", "Paris")


@pytest.mark.parametrize("around", ["$A", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize(
    ("spans", "texts"),
    [
        (((11, 16),), [" Paris"]),  # the token begins a letter before the span
        (((12, 13), (17, 22)), [" Paris", " Lyon"]),
        (((0, 4),), ["Where"]),
    ],
)
def test_tokens_that_overlap_a_span(around: str, spans: tuple[tuple[int, int], ...], texts: list[str]) -> None:
    """Also for a tokenizer that cannot tell where its tokens stand."""
    whole = "Where? Is: Paris Lyon"
    corpus = ["Where? Is:", " Paris", " Lyon", *habits.CORPUS]
    quick = habits.adding(habits.byte_bpe(corpus=corpus * 9), around)
    ids = token_ids(quick, [whole])[0]
    for tokenizer in (quick, Slow(quick)):
        found = overlapping(tokenizer, whole, spans)  # type: ignore[arg-type]
        assert [quick.decode([ids[i]]) for i in found] == texts


class Slow:
    """The same tokenizer without offsets."""

    is_fast = False

    def __init__(self, quick: PreTrainedTokenizerFast) -> None:
        self.quick, self.eos_token, self.eos_token_id = quick, quick.eos_token, quick.eos_token_id

    def __call__(self, texts: list[str], **options: bool) -> object:
        return self.quick(texts, **options)
