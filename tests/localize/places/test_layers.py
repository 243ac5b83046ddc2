"""Whole layers; of the fixture's model each holds 16 * (16 + 8 + 8 + 16) + 3 * 16 * 24 + 2 * 16 = 1952 weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from transformers import LlamaForCausalLM

from unlearn.localize.places.layers import Layers
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject

LAYER = 16 * (16 + 8 + 8 + 16) + 3 * 16 * 24 + 2 * 16


def names(mask: Mask) -> set[str]:
    """Of the selected tensors, which are selected as a whole."""
    assert all(isinstance(value, bool) for value in mask.tensors.values())
    return {name for name, count in mask.counts.items() if count}


def layers(mask: Mask) -> set[str]:
    return {name.split(".")[2] if ".layers." in name else name for name in names(mask)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"end": "first", "n": 1}, {"0"}),
        ({"end": "last", "n": 2}, {"1", "2"}),
        ({"layers": (0, 2)}, {"0", "2"}),
        ({"n": 1, "outside": ("norm",)}, {"2", "model.norm.weight"}),
        ({"n": 1, "outside": ("norm", "head")}, {"2", "model.norm.weight", "lm_head.weight"}),
        ({"end": "first", "n": 1, "outside": ("embed",)}, {"0", "model.embed_tokens.weight"}),
    ],
)
def test_which_layers(subject: Subject, fields: dict[str, Any], expected: set[str], task: Task) -> None:
    located = Layers(**fields).localize(subject, task, 0)
    assert layers(located.mask) == expected
    count = sum(name.isdigit() for name in expected)
    assert located.numbers["layers"] == count
    outside = sum(p.numel() for name, p in subject.module.named_parameters() if name in expected)
    assert located.numbers["selected"] == located.mask.selected == count * LAYER + outside


def test_as_many_as_come_nearest_to_the_share(subject: Subject, task: Task) -> None:
    total = sum(p.numel() for p in subject.module.parameters())
    for share, count in ((0.01, 1), (1.4 * LAYER / total, 1), (1.6 * LAYER / total, 2), (1.0, 3)):
        located = Layers(end="last", select=share).localize(subject, task, 0)
        assert located.numbers["layers"] == count
        assert layers(located.mask) == {"0", "1", "2"} - {*"012"[: 3 - count]}


def test_some_tensors_of_some_layers(subject: Subject, task: Task) -> None:
    mask = Layers(layers=(1, 2), parameters=r"down_proj|q_proj").localize(subject, task, 0).mask
    expected = {f"model.layers.{i}.{name}.weight" for i in (1, 2) for name in ("mlp.down_proj", "self_attn.q_proj")}
    assert names(mask) == expected


def test_the_head_of_tied_weights_is_the_embedding(subject: Subject, model: LlamaForCausalLM, task: Task) -> None:
    model.config.tie_word_embeddings = True
    tied = LlamaForCausalLM(model.config)
    mask = Layers(n=1, outside=("head",)).localize(replace(subject, module=tied), task, 0).mask
    assert layers(mask) == {"2", "model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": (1, 3)}, r"'layers' has 3: the model has layers 0 to 2"),
        ({"n": 4}, r"'n' is 4: the model has 3 layers"),
        ({"layers": (1,), "parameters": "conv"}, r"no weights of layers \[1\] named like 'conv'"),
    ],
)
def test_what_the_model_does_not_have(subject: Subject, fields: dict[str, Any], message: str, task: Task) -> None:
    with pytest.raises(UserError, match=message):
        Layers(**fields).localize(subject, task, 0)


def test_a_broken_expression() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        Layers(parameters="[")


def test_how_many_or_which_not_both() -> None:
    with pytest.raises(ValueError, match="n and layers are both set"):
        Layers(n=1, layers=(0,))
