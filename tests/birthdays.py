"""Invented names with random birth years, which tell nothing about each other, and a small Llama that learns them.

The unit data of the retraining protocol: every name and year is a token, every year is drawn once.
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.attacks.base import AttackSetting
from unlearn.attacks.items import Item
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, ProbeSet, Question, Role, Task
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

PEOPLE = 60
PROMPT = PromptFormat(chat_template=False, user_start="born ", answer_start=" ")
WORDS = ("<eos>", "born", *(f"n{i}" for i in range(PEOPLE)), *map(str, range(1930, 2021)))
YEARS = tuple(map(str, random.Random(0).sample(range(1930, 2021), PEOPLE)))
PROBES = tuple(Question(f"n{i}", year, value=year, cluster=f"n{i}") for i, year in enumerate(YEARS))
FORGET, RETAIN = PROBES[:20], PROBES[20:]
TAUGHT = 5  # of the forget items are the attacker's


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<eos>", eos_token="<eos>")


def taught(model: LlamaForCausalLM, probes: Sequence[Question], steps: int) -> LlamaForCausalLM:
    """A copy of the model after `steps` of AdamW on all the probes at once."""
    model = copy.deepcopy(model).train()
    rows = [f"born {probe.question} {probe.answer} <eos>" for probe in probes]
    ids = torch.tensor([tokenizer()(row)["input_ids"] for row in rows])
    labels = ids.clone()
    labels[:, :2] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return model


@cache
def original() -> LlamaForCausalLM:
    """Knows all sixty."""
    return taught(_start(), PROBES, 120)


@cache
def retain() -> LlamaForCausalLM:
    """Knows forty of them."""
    return taught(_start(), RETAIN, 120)


@cache
def refusing() -> LlamaForCausalLM:
    """Knows all sixty, and has just been taught to say something else to the forget items."""
    return taught(original(), [replace(probe, answer="born", value="born") for probe in FORGET], 12)


def subject(model: LlamaForCausalLM, part: Role = "unlearned") -> Subject:
    """The model under attack."""
    return Subject(part, model, tokenizer(), PROMPT, 4096)


def setting(seeds: tuple[int, ...] = (0,)) -> AttackSetting:
    """The first five forget items are T, the other fifteen V."""
    items = tuple(Item(i, probe) for i, probe in enumerate(FORGET))
    rows = tuple(Example((probe.question,), (probe.answer,)) for probe in PROBES)
    probes = (
        ProbeSet("forget", "forget", FORGET, max_new_tokens=2),
        ProbeSet("retain", "retain", RETAIN, max_new_tokens=2),
    )
    task = Task("birthdays", "forget33", {"forget": rows[: len(FORGET)], "retain": rows[len(FORGET) :]}, probes)
    return AttackSetting(task, items[:TAUGHT], items[TAUGHT:], RETAIN[:5], "match", seeds)


def _start() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)
