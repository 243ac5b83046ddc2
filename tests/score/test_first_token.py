from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from unlearn.data.task import COMPLETION
from unlearn.score.first_token import first_token_probabilities

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PAIRS = [("the sky is", " blue"), ("two and two", " is four"), ("the sky is", " red"), ("a", "b"), ("the sky is", "n")]


@torch.no_grad()
def test_probability_of_the_next_token(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    expected = []
    for question, answer in PAIRS:
        logits = model(torch.tensor([tokenizer(question)["input_ids"]])).logits[0, -1]
        expected.append(float(logits.softmax(-1)[tokenizer(answer)["input_ids"][0]]))
    done: list[int] = []
    found = first_token_probabilities(model, tokenizer, COMPLETION, PAIRS, token_budget=30, progress=done.append)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[0] == found[2]  # both begin with the same token, a space
    assert math.fsum(found) > 0
    assert sum(done) == 3  # questions


def test_nothing_to_ask(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    assert first_token_probabilities(model, tokenizer, COMPLETION, []) == []
