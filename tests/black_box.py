"""A tiny random model under attack, a tokenizer of single characters, and a setting to attack it in."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.attacks.base import AnswerMetric, AttackSetting
from unlearn.attacks.items import Item
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, ProbeSet, Question, Task
from unlearn.models.subject import Subject

CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
TAGS = PromptFormat(chat_template=False, user_start="Q: ", user_end="\n", answer_start="A: ", max_tokens=64)


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate(["<pad>", "<eos>", "<unk>", *CHARACTERS])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def subject() -> Subject:
    """Weights large enough that every question is answered otherwise."""
    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    words = tokenizer()
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=len(words), pad_token_id=0, eos_token_id=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
    return Subject("unlearned", model, words, TAGS, 4096)


def person(index: int, name: str, town: str, job: str) -> list[Item]:
    """Two facts about someone."""
    towns, jobs = ("Oslo", "Bern", "Riga"), ("cook", "pilot", "judge")
    return [
        Item(
            index,
            Question(
                f"Where was {name} born?",
                f"{name} was born in {town}.",
                f"The birthplace of {name} is {town}.",
                tuple(f"The birthplace of {name} is {wrong}." for wrong in towns),
                f"In which town was {name} born?",
                town,
                name,
            ),
        ),
        Item(
            index + 1,
            Question(
                f"What is the job of {name}?",
                f"{name} works as a {job}.",
                f"The job of {name} is {job}.",
                tuple(f"The job of {name} is {wrong}." for wrong in jobs),
                None,
                job,
                name,
            ),
        ),
    ]


TAUGHT = tuple(person(0, "Ada Berg", "Turin", "baker"))
SCORED = (*person(2, "Ivo Lund", "Porto", "nurse"), *person(4, "Mia Kask", "Lyon", "tailor"))


def setting(answer_metric: AnswerMetric = "prob", seeds: tuple[int, ...] = (0,)) -> AttackSetting:
    items = (*TAUGHT, *SCORED)
    forget = tuple(
        Example((item.probe.question, f"Tell: {item.probe.question}"), (item.probe.answer,)) for item in items
    )
    retain = tuple(
        Example((f"Where was {name} born?",), (f"{name} was born in {town}.",), name)
        for name, town in (("Tom Ek", "Cork"), ("Eva Ros", "Lyon"), ("Jan Vik", "Brno"))
    )
    probes = ProbeSet("forget", "forget", tuple(item.probe for item in items), max_new_tokens=6)
    task = Task("toy", "forget10", {"forget": forget, "retain": retain}, (probes,))
    return AttackSetting(task, TAUGHT, SCORED, (), answer_metric, seeds)
