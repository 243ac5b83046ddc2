from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.score.generate import clean, generate, pad_id

PROMPTS = [[5, 9, 30], [7], [12, 3, 44, 8, 21, 6], [40, 2], [9, 9, 9, 9]]


@torch.no_grad()
def greedy(model: LlamaForCausalLM, prompt: list[int], steps: int, ends: set[int]) -> list[int]:
    """The definition: one prompt, no cache, no padding, the most probable token each time."""
    ids = list(prompt)
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("token_budget", [1, 25, 1000])
def test_equals_one_prompt_at_a_time(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, token_budget: int
) -> None:
    expected = [tokenizer.decode(greedy(model, p, 8, {1}), skip_special_tokens=True).strip() for p in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, 8, token_budget) == expected
    assert len(set(expected)) > 1


def test_ends_at_every_eos_of_the_generation_config(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    first = greedy(model, PROMPTS[0], 8, {1})
    model.generation_config.eos_token_id = [1, first[2]]
    expected = tokenizer.decode(first[: first.index(first[2]) + 1], skip_special_tokens=True).strip()
    assert generate(model, tokenizer, PROMPTS[:1], 8, 1000) == [expected]


def test_without_eos_in_the_generation_config_the_tokenizers_counts(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    model.generation_config.eos_token_id = None
    expected = [tokenizer.decode(greedy(model, p, 8, {1}), skip_special_tokens=True).strip() for p in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, 8, 1000) == expected


def test_mask_pad_hides_pad_tokens_inside_the_prompt(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Hidden tokens do not advance positions, so a prompt with pad tokens inside reads as one without."""
    prompts = [[12, 0, 3, 44, 0, 8]]
    assert generate(model, tokenizer, prompts, 8, 1000, mask_pad=True) == generate(
        model, tokenizer, [[12, 3, 44, 8]], 8, 1000
    )
    assert generate(model, tokenizer, prompts, 8, 1000, mask_pad=True) != generate(model, tokenizer, prompts, 8, 1000)


@pytest.mark.parametrize(
    ("text", "ends", "expected"),
    [
        ("  Rome. ", [], "Rome."),
        ("Rome<eos>Oslo", ["<eos>"], "Rome"),
        ("Rome\n\nQuestion: b", ["<eos>", "\n\n", "Question:"], "Rome"),
        ("Rome", [None], "Rome"),
        ("<eos>Rome", ["<eos>"], ""),
    ],
)
def test_clean(text: str, ends: list[str | None], expected: str) -> None:
    assert clean(text, ends) == expected


def test_pad_id(tokenizer: PreTrainedTokenizerFast) -> None:
    import copy

    other = copy.deepcopy(tokenizer)
    assert pad_id(other) == 0
    other.pad_token = None
    assert pad_id(other) == 1
    other.eos_token = None
    assert pad_id(other) == 0
