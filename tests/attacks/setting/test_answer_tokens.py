"""Where an answer says the fact."""

from __future__ import annotations

import pytest
from bigram import WORDS, tokenizer

from unlearn.attacks.setting.answer_tokens import answer_tokens
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Question


@pytest.mark.parametrize(
    ("probe", "read", "said"),
    [
        (Question("a b", "c d e", value="d e"), "a b c", "d"),
        (Question("a b", "c d e", value="c"), "a b", "c"),
        (Question("a b", "c d e"), "a b", "c"),  # no bare value: the answer's own beginning
        (Question("a b", "c d e", value="q"), "a b", "c"),  # the answer says it otherwise
        (Question("a b", "a b a", value="b a"), "a b a", "b"),
    ],
)
@pytest.mark.parametrize("eos", [True, False])
def test_what_comes_before_the_value_is_given(probe: Question, read: str, said: str, eos: bool) -> None:
    prompt = PromptFormat(chat_template=False, answer_start=" ", eos=eos)
    other = Question("a", "b c", value="c")
    answer, last = answer_tokens(tokenizer(), prompt, [probe, other])
    assert [WORDS[i] for i in answer.ids] == read.split()
    assert WORDS[answer.token] == said
    assert [WORDS[i] for i in last.ids] == ["a", "b"]
    assert WORDS[last.token] == "c"


def test_an_answer_that_was_cut_short_still_has_a_token_to_say() -> None:
    prompt = PromptFormat(chat_template=False, answer_start=" ", eos=False, max_tokens=4)
    (answer,) = answer_tokens(tokenizer(), prompt, [Question("a b", "c d e f", value="e f")])
    assert [WORDS[i] for i in answer.ids] == ["a", "b", "c"]
    assert WORDS[answer.token] == "d"


def test_a_space_at_the_end_of_the_prompt_belongs_to_the_answer() -> None:
    """In byte-level vocabularies " Rome" is one token, and the bare space after "A:" another."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        ["home of Ada A: Rome is Rome", "A: in Rome"] * 9, vocab_size=400, special_tokens=["<eos>"], show_progress=False
    )
    words = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<eos>")
    prompt = PromptFormat(chat_template=False, user_end=" A:", answer_start=" ")
    probes = [Question("home of Ada", "Rome"), Question("home of Ada", "in Rome", value="Rome")]
    bare, led = answer_tokens(words, prompt, probes)
    assert (words.decode(list(bare.ids)), words.decode([bare.token])) == ("home of Ada A:", " Rome")
    assert (words.decode(list(led.ids)), words.decode([led.token])) == ("home of Ada A: in", " Rome")
