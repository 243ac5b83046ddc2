"""A small model that has learnt nothing, a byte-level tokenizer, and a setting: what attacks on inputs are tried on."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.attacks.base import AttackSetting
from unlearn.attacks.items import Item
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, ProbeSet, Question, Task
from unlearn.models.subject import Subject

TEXT = "where is the home of Ada? She lives in Rome, he lives in Bern. the the x x ! when was Bob born?"
PAIRS = [("Where is Ada?", "She is in Rome."), ("When was Bob born?", "In the month of May.")]
POSED = [(Question(question, answer), answer) for question, answer in PAIRS]


@functools.cache
def _trained() -> str:
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    special = ["<pad>", "<eos>"]
    bpe.train_from_iterator([TEXT] * 4, vocab_size=300, special_tokens=special, show_progress=False)
    return str(bpe._tokenizer.to_str())


def tokenizer_of() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 300 tokens; a new one each time."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_str(_trained())
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")


def model_of(seed: int = 0) -> LlamaForCausalLM:
    """2 layers of width 16, with weights large enough that inputs matter."""
    torch.manual_seed(seed)
    sizes: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(**sizes, vocab_size=len(tokenizer_of()), pad_token_id=0, bos_token_id=None, eos_token_id=1)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.eval()
    return model


def subject_of(seed: int = 0) -> Subject:
    """The model as it is asked: a question, a line end, the answer."""
    prompt = PromptFormat(chat_template=False, user_end="\n")
    return Subject("unlearned", model_of(seed), tokenizer_of(), prompt, 512)


def setting_of(taught: int = 4, scored: int = 3, seeds: tuple[int, ...] = (0,)) -> AttackSetting:
    """Items about invented people, each with a wrong answer; answers are bare names."""
    names = ("Ada", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal", "Ida", "Jim")
    towns = ("Rome", "Bern", "Oslo", "Lima", "Nice", "Bonn", "Cork", "Graz", "Pisa", "Kiel")
    probes = tuple(
        Question(f"Where is {name}?", f"In {town}.", perturbed_answers=(f"In {other}.",), value=town, cluster=name)
        for name, town, other in zip(names, towns, towns[1:] + towns[:1], strict=True)
    )
    items = tuple(Item(i, probe) for i, probe in enumerate(probes))
    row = (Example(("Where is Zoe?",), ("In Ghent.",)),)
    sets = {"forget": row, "retain": row, "refusal": (Example(("Where is Zoe?",), ("No idea.",)),)}
    task = Task("toy", "forget", sets, (ProbeSet("forget", "forget", probes, max_new_tokens=4),))
    return AttackSetting(task, items[:taught], items[taught : taught + scored], (probes[-1],), "match", seeds)


def hooks_of(subject: Subject) -> int:
    """How many forward hooks there are anywhere in the model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.module.modules())
