"""Suspects whose answers can be worked out by hand: a model that is a table of next-token probabilities, and a small
random Llama, both over a vocabulary of words.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from unlearn.attacks.base import AttackSetting
from unlearn.attacks.items import Item
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, ProbeSet, Question, Role, Task
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORDS = ("<eos>", *"abcdefghijklmnopq")
PROMPT = PromptFormat(chat_template=False, answer_start=" ", eos=False)
SIZES: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1}
SIZES |= {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each letter; spaces only part them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<eos>", eos_token="<eos>")


def bigram(follows: Mapping[str, Mapping[str, float]]) -> LlamaForCausalLM:
    """p(next | word) as given, the rest of the probability spread over all other words.

    Without layers a Llama's logits depend on the last token alone: one-hot embeddings, whose norm is V^-1/2.
    """
    n = len(WORDS)
    config = LlamaConfig(vocab_size=n, hidden_size=n, num_hidden_layers=0, head_dim=n, rms_norm_eps=1e-12, **SIZES)
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = 0
    table = torch.full((n, n), 1 / n)
    for word, shares in follows.items():
        rest = (1 - sum(shares.values())) / max(1, n - len(shares))
        table[WORDS.index(word)] = rest
        for other, share in shares.items():
            table[WORDS.index(word), WORDS.index(other)] = share
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(n))
        model.lm_head.weight.copy_(table.log().T / n**0.5)
    return model


def random_llama(seed: int = 0, layers: int = 3) -> LlamaForCausalLM:
    """With weights large enough that inputs matter."""
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=layers, **SIZES)
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def subject(model: PreTrainedModel, part: Role = "unlearned") -> Subject:
    """The model under attack."""
    return Subject(part, model, tokenizer(), PROMPT, 64)


def setting(
    scored: Sequence[Question],
    taught: Sequence[Question] = (),
    holdout: Sequence[Question] = (),
    retain: Sequence[str] = ("a",),
) -> AttackSetting:
    """Items in order, T after V."""
    sets = [ProbeSet("forget", "forget", (*scored, *taught), max_new_tokens=4)]
    sets += [ProbeSet("holdout", "holdout", tuple(holdout), max_new_tokens=4)] if holdout else []
    rows = tuple(Example((question,), ("b",)) for question in retain)
    task = Task("toy", "forget10", {"forget": (Example(("a",), ("b",)),), "retain": rows}, tuple(sets))
    items = [Item(i, probe) for i, probe in enumerate((*scored, *taught))]
    return AttackSetting(task, tuple(items[len(scored) :]), tuple(items[: len(scored)]), (), "prob")
