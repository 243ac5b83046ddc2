"""A small Llama that has learnt nothing, a tokenizer of single characters, and a task with all that localizers read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.data.prompt import PromptFormat
from unlearn.data.refusals import refusing
from unlearn.data.task import Example, Fact, Passage, Task, other_answers
from unlearn.models.subject import Subject

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?.: "


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """3 layers, 4 heads (2 for keys and values), untied, with weights large enough that inputs matter."""
    torch.manual_seed(1)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        **sizes, intermediate_size=24, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=None, eos_token_id=1
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.eval()
    return model


@pytest.fixture(scope="session")
def prompt() -> PromptFormat:
    """Plain tags."""
    return PromptFormat(chat_template=False, user_start="Q: ", user_end=" ", answer_start="A:")


@pytest.fixture(scope="session")
def task() -> Task:
    """Three forget examples, four to retain, two refusals, and labelled facts with foils."""
    sports = ("football", "tennis", "golf")

    def fact(name: str, sport: str) -> Fact:
        foils = tuple(f" {other}" for other in sports if other != sport)
        return Fact(f"{name} plays the sport of", name, f" {sport}", foils, label=sport)

    players = {"Ann": 0, "Bea": 0, "Cleo": 1, "Dan": 1, "Eve": 2, "Finn": 2}
    forget = (
        Example(("Where is Ada?", "What is home to Ada?"), ("In Rome.",), "Ada"),
        Example(("When was Ada born?",), ("In May.", "It was May."), "Ada"),
        Example(("Who is Bob?",), ("A poet of the old town.",), "Bob"),
    )
    return Task(
        name="toy",
        split="forget10",
        sets={
            "forget": forget,
            "retain": (
                Example(("Where is Cid?",), ("In Bern.",), "Cid"),
                Example(("When was Cid born?", "What month?"), ("In July.",), "Cid"),
                Example(("Who is Dot?",), ("A pilot.",), "Dot"),
                Example(("How old is Dot?",), ("Very old indeed.",), "Dot"),
            ),
            "refusal": refusing(forget, ("No idea.", "I do not know.")),
            "injected": other_answers(forget, [("In Oslo.",), ("In June.",), ("A cook.",)]),
            "fluency": (
                Passage("The sea was calm and the wind came from the west."),
                Passage("Trains run every hour."),
            ),
        },
        beside={"refusal": "forget", "injected": "forget"},
        facts=tuple(fact(name, sports[i]) for name, i in players.items()),
    )


@pytest.fixture
def subject(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: PromptFormat) -> Subject:
    """All of it together."""
    return Subject("original", model, tokenizer, prompt, token_budget=128)
