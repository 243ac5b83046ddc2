"""A tiny model that has learnt nothing and a tokenizer of single characters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, ProbeSet, Question, Task

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?.: "


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = LlamaConfig(**sizes, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=None, eos_token_id=1)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.eval()
    return model


@pytest.fixture(scope="session")
def prompt() -> PromptFormat:
    return PromptFormat(chat_template=False, user_start="Q: ", user_end=" ", answer_start="A: ")


@pytest.fixture(scope="session")
def task() -> Task:
    forget = ProbeSet(
        "forget",
        "forget",
        (
            Question("Where?", "In Rome.", "It is Rome.", ("It is Oslo.", "It is Bern."), "What place?", "Rome", "x"),
            Question("When?", "In May.", "It was May.", ("It was June.", "It was July."), "What month?", "May", "y"),
        ),
    )
    utility = ProbeSet("world", "utility", (Question("Who?", "Ada", None, ("Bob", "Eve")),), normalise=True)
    holdout = ProbeSet("holdout", "holdout", (Question("Why?", "For fun."), Question("How?", "By hand.")))
    example = (Example(("a",), ("b",)),)
    sets = {"forget": example, "retain": example}
    return Task("toy", "forget10", sets, tuple(replace(p, max_new_tokens=5) for p in (forget, utility, holdout)))
