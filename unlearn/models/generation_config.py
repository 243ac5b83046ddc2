"""What of a model's generation config counts: its token ids, so that greedy answers are greedy."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers import GenerationConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def token_ids_only(config: GenerationConfig) -> GenerationConfig:
    """Return the config without all but token ids.

    A repetition penalty, beams or a sampling rule would change what is generated, and some of them cannot be saved
    beside greedy decoding.
    """
    return GenerationConfig(**{name: getattr(config, name, None) for name in _TOKENS})


@contextmanager
def plainly(model: PreTrainedModel) -> Iterator[None]:
    """Have the model's own config, which fills in what a call of `generate` leaves out, with token ids only."""
    held = model.generation_config
    model.generation_config = token_ids_only(held)
    try:
        yield
    finally:
        model.generation_config = held


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """Return the tokens that end an answer: the tokenizer's EOS and the config's; None where there are none.

    A chat model's config often has another EOS than its tokenizer, which ends turns.
    """
    own = model.generation_config.eos_token_id
    found = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}
    return sorted(found) or None
