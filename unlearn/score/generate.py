"""Answers to prompts, greedy or sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn.models.generation_config import plainly, stop_ids
from unlearn.models.interventions.base import gated, refused
from unlearn.models.sampling import Sampling
from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LIKELIEST = 512  # tokens that nearly always hold top_p of the probability: sorting the vocabulary is slow


@dataclass(frozen=True)
class Decoding:
    """Say how answers are decoded."""

    sampling: Sampling | None = None
    """How they are drawn; None: greedy."""

    mask_pad: bool = False
    """Also hide tokens equal to the pad token inside the prompt (see likelihoods)."""


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    token_budget: int,
    decoding: Decoding = Decoding(),
    progress: Callable[[int], object] | None = None,
) -> list[str]:
    """Return the model's answer to each prompt (ids), decoded by `clean`; an intervention's refusal where it is open.

    Prompts are left-padded and batched by length; token_budget counts prompt and answer, max_new_tokens long. An answer
    ends at the tokenizer's EOS and at those of the model's generation config, of which nothing else counts.
    progress: called with the number of prompts done since the last call.
    """
    from transformers import GenerationConfig

    pad, ends = pad_id(tokenizer), stop_ids(model, tokenizer)
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=ends, pad_token_id=pad)
    device, sampling = model.device, decoding.sampling
    chances = torch.empty(0, 0)
    if sampling:  # a number for each token of each answer, drawn before the prompts are put into batches
        chances = torch.rand(
            len(prompts), max_new_tokens, generator=torch.Generator().manual_seed(sampling.seed), dtype=torch.float64
        )

    def answer(batch: list[tuple[int, Sequence[int]]]) -> list[str]:
        width = max(len(prompt) for _, prompt in batch)
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for _, prompt in batch], device=device)
        lengths = torch.tensor([len(prompt) for _, prompt in batch], device=device)
        there = torch.arange(width, device=device) >= width - lengths[:, None]
        mask = there & (ids != pad) if decoding.mask_pad else there
        drawing: dict[str, Any] = {}
        if sampling:
            mine = chances[[row for row, _ in batch]].to(device)
            drawing = {
                "logits_processor": [lambda seen, scores: _drawn(scores, mine[:, seen.shape[1] - width], sampling)]
            }
        with gated(model, ids, there, lengths), plainly(model):
            refusals = refused(model, len(batch))
            ids = model.generate(input_ids=ids, attention_mask=mask.long(), generation_config=config, **drawing)  # type: ignore[operator]
        generated = zip(ids[:, width:].tolist(), refusals, strict=True)
        answers = [own if refusal is None else list(refusal[:max_new_tokens]) for own, refusal in generated]
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        return [clean(text, [tokenizer.eos_token]) for text in texts]

    rows = list(enumerate(prompts))
    return map_batches(answer, rows, lambda row: len(row[1]) + max_new_tokens, token_budget, progress=progress)


def _drawn(scores: Tensor, chance: Tensor, sampling: Sampling) -> Tensor:
    """Return scores in which the drawn token alone is possible. scores: [B, V] logits; chance: [B] in [0, 1)."""
    token = draw(torch.softmax(scores.float() / sampling.temperature, dim=-1), chance, sampling.top_p)
    return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)


def draw(p: Tensor, chance: Tensor, top_p: float = 1.0) -> Tensor:
    """Return the token where the cumulated probability, likeliest first, passes `chance` of the kept mass: [B].

    p: [B, V], sums to 1. chance: [B], uniform in [0, 1). The fewest likeliest tokens with at least top_p of the mass
    are kept.
    """
    values, tokens = p.topk(min(_LIKELIEST, p.shape[1]))
    if values.shape[1] < p.shape[1] and (values.sum(-1) < top_p).any():
        values, tokens = p.sort(dim=-1, descending=True)
    values = values.double()
    before = values.cumsum(-1) - values
    kept = torch.where(before < top_p, values, 0.0).cumsum(-1)
    place = torch.searchsorted(kept, (chance.double() * kept[:, -1])[:, None], right=True)
    return tokens.gather(1, place.clamp_max(values.shape[1] - 1))[:, 0]


def clean(text: str, ends: Iterable[str | None]) -> str:
    """Return the text before the first of each end string, without surrounding white space."""
    for end in filter(None, ends):
        text = text.split(end, 1)[0]
    return text.strip()


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the tokenizer's pad token; its EOS where it has none, and 0 where it has neither."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
