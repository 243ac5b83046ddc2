"""Greedy answers to prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from unlearn.score.batching import map_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    token_budget: int,
    stop: Iterable[str] = (),
    mask_pad: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[str]:
    """The model's greedy answer to each prompt (ids), decoded by `clean`.

    Prompts are left-padded and batched by length; token_budget counts prompt and answer, max_new_tokens long. An answer
    ends at the end-of-sequence tokens of the model's generation config (the tokenizer's EOS where it names none).
    mask_pad: also hide tokens equal to the pad token inside the prompt (see likelihoods).
    progress: called with the number of prompts done since the last call.
    """
    from transformers import GenerationConfig

    eos = model.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    pad = pad_id(tokenizer)
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=eos, pad_token_id=pad)
    device = model.device

    def answer(batch: list[Sequence[int]]) -> list[str]:
        width = max(map(len, batch))
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in batch], device=device)
        lengths = torch.tensor([len(prompt) for prompt in batch], device=device)
        mask = torch.arange(width, device=device) >= width - lengths[:, None]
        if mask_pad:
            mask &= ids != pad
        ids = model.generate(input_ids=ids, attention_mask=mask.long(), generation_config=config)  # type: ignore[operator]
        texts = tokenizer.batch_decode(ids[:, width:], skip_special_tokens=True, clean_up_tokenization_spaces=True)
        return [clean(text, [tokenizer.eos_token, *stop]) for text in texts]

    return map_batches(answer, prompts, lambda prompt: len(prompt) + max_new_tokens, token_budget, progress=progress)


def clean(text: str, ends: Iterable[str | None]) -> str:
    """The text before the first of each end string, without surrounding white space."""
    for end in filter(None, ends):
        text = text.split(end, 1)[0]
    return text.strip()


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's pad token; its EOS where it has none, and 0 where it has neither."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
