from __future__ import annotations

import pytest
from bigram import PROMPT, WORDS, tokenizer

from unlearn.attacks.setting.option_tokens import option_tokens
from unlearn.data.task import Question


@pytest.mark.parametrize(
    ("probe", "shared", "options"),
    [
        (Question("a", "b c d", perturbed_answers=("b c e", "b c f")), "abc", "def"),
        (Question("a", "g", "b c", ("b d",)), "ab", "cd"),  # wrong answers are variants of the paraphrased one
        (Question("a", "b", perturbed_answers=("c d", "b e")), "a", "bcb"),
        (Question("a", "b c", perturbed_answers=("b c d",)), "ab", "cc"),  # one is the beginning of the other
    ],
)
def test_where_options_part_ways(probe: Question, shared: str, options: str) -> None:
    (choice,) = option_tokens(tokenizer(), PROMPT, [probe])
    assert [WORDS[i] for i in choice.ids] == [*shared]
    assert [WORDS[i] for i in choice.options] == [*options]
    assert WORDS[choice.token] == options[0]
