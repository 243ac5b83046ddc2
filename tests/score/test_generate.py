from __future__ import annotations

import copy

import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.models.sampling import Sampling
from unlearn.score import generate as module
from unlearn.score.generate import Decoding, clean, draw, generate, pad_id

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
    expected = [str(tokenizer.decode(greedy(model, p, 8, {1}), skip_special_tokens=True)).strip() for p in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, 8, token_budget) == expected
    assert len(set(expected)) > 1


def test_ends_at_every_eos_of_the_generation_config(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    first = greedy(model, PROMPTS[0], 8, {1})
    model.generation_config.eos_token_id = [1, first[2]]
    expected = str(tokenizer.decode(first[: first.index(first[2]) + 1], skip_special_tokens=True)).strip()
    assert generate(model, tokenizer, PROMPTS[:1], 8, 1000) == [expected]


def test_without_eos_in_the_generation_config_the_tokenizers_counts(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    model.generation_config.eos_token_id = None
    expected = [str(tokenizer.decode(greedy(model, p, 8, {1}), skip_special_tokens=True)).strip() for p in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, 8, 1000) == expected


def test_both_the_tokenizers_eos_and_the_configs_end_answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = [greedy(model, p, 8, set()) for p in PROMPTS]
    turn, text = whole[0][2], whole[3][1]  # what a chat model ends turns with, and what its tokenizer calls EOS
    assert turn != text
    other = copy.deepcopy(tokenizer)
    other.eos_token = str(tokenizer.convert_ids_to_tokens(text))
    for of_config in (turn, [turn], [turn, text]):
        model.generation_config.eos_token_id = of_config
        expected = [str(other.decode(greedy(model, p, 8, {turn, text}), skip_special_tokens=True)) for p in PROMPTS]
        assert generate(model, other, PROMPTS, 8, 1000) == [clean(answer, [other.eos_token]) for answer in expected]


ODD = {
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "num_return_sequences": 2,
    "do_sample": True,
    "temperature": 9.0,
    "min_p": 0.3,
    "typical_p": 0.3,
    "max_length": 7,
    "forced_eos_token_id": 5,
    "suppress_tokens": [3, 4, 5],
    "encoder_repetition_penalty": 2.0,
}


@pytest.mark.parametrize("field", [*ODD])
def test_greedy_is_greedy_whatever_the_models_generation_config(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, field: str
) -> None:
    expected = [str(tokenizer.decode(greedy(model, p, 8, {1}), skip_special_tokens=True)).strip() for p in PROMPTS]
    held = GenerationConfig(eos_token_id=1)
    setattr(held, field, ODD[field])
    model.generation_config = held
    assert generate(model, tokenizer, PROMPTS, 8, 1000) == expected
    assert model.generation_config is held


def test_mask_pad_hides_pad_tokens_inside_the_prompt(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Hidden tokens do not advance positions, so a prompt with pad tokens inside reads as one without."""
    prompts = [[12, 0, 3, 44, 0, 8]]
    assert generate(model, tokenizer, prompts, 8, 1000, Decoding(mask_pad=True)) == generate(
        model, tokenizer, [[12, 3, 44, 8]], 8, 1000
    )
    assert generate(model, tokenizer, prompts, 8, 1000, Decoding(mask_pad=True)) != generate(
        model, tokenizer, prompts, 8, 1000
    )


@pytest.mark.parametrize("token_budget", [1, 25])
def test_sampled_answers_depend_on_the_seed_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, token_budget: int
) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expected = generate(model, tokenizer, PROMPTS, 8, 1000, Decoding(sampling))
    assert torch.equal(torch.get_rng_state(), before)
    assert generate(model, tokenizer, PROMPTS, 8, token_budget, Decoding(sampling)) == expected
    assert generate(model, tokenizer, PROMPTS, 8, 1000, Decoding(Sampling(seed=4))) != expected


def test_without_warmth_or_with_the_likeliest_token_alone_sampling_is_greedy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = generate(model, tokenizer, PROMPTS, 8, 1000)
    assert generate(model, tokenizer, PROMPTS, 8, 1000, Decoding(Sampling(temperature=1e-4))) == expected
    assert generate(model, tokenizer, PROMPTS, 8, 1000, Decoding(Sampling(top_p=1e-6))) == expected


@torch.no_grad()
def test_sampled_tokens_have_the_models_probabilities(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    from scipy.stats import chisquare

    p = torch.softmax(model(torch.tensor([PROMPTS[0]])).logits[0, -1].double() / 2, dim=-1)
    texts = generate(model, tokenizer, [PROMPTS[0]] * 3000, 1, 10**6, Decoding(Sampling(temperature=2.0)))
    drawn = [text if text in tokenizer.get_vocab() else "" for text in texts]  # specials and the space leave nothing
    named = [i for i in range(len(p)) if str(tokenizer.decode([i], skip_special_tokens=True)).strip()]
    expected = torch.cat([p[named], 1 - p[named].sum()[None]]) * 3000
    found = [drawn.count(str(tokenizer.decode([i]))) for i in named]
    assert chisquare([*found, 3000 - sum(found)], expected.numpy()).pvalue > 1e-3


def test_a_token_is_drawn_where_the_kept_mass_passes_the_chance() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3]]).expand(5, 3)
    assert draw(p, torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81])).tolist() == [1, 1, 2, 2, 0]
    # 0.5 and 0.3 are kept, the chance counts in 0.8
    assert draw(p, torch.tensor([0.0, 0.62, 0.63, 0.9, 0.999]), top_p=0.6).tolist() == [1, 1, 2, 2, 2]
    assert draw(p, torch.full((5,), 0.999), top_p=0.5).tolist() == [1] * 5


def test_the_whole_vocabulary_is_sorted_only_where_the_likeliest_do_not_hold_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(3 * torch.randn(64, 40, generator=generator), dim=-1)
    chance = torch.rand(64, generator=generator)
    expected = {top_p: draw(p, chance, top_p).tolist() for top_p in (0.3, 0.9, 1.0)}
    monkeypatch.setattr(module, "_LIKELIEST", 3)
    assert {top_p: draw(p, chance, top_p).tolist() for top_p in (0.3, 0.9, 1.0)} == expected


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
    other = copy.deepcopy(tokenizer)
    assert pad_id(other) == 0
    other.pad_token = None
    assert pad_id(other) == 1
    other.eos_token = None
    assert pad_id(other) == 0
