"""Random MLPs and matrices: what is drawn from, how often, and up to which budget."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaForCausalLM

from unlearn.localize.places.parts import matrices, mlps
from unlearn.localize.places.random_parts import RandomParts
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject

MLP = 3 * 16 * 24  # weights of the toy's MLP; of its attention q, k, v, o: 16 x 16, 2 of 8 x 16, 16 x 16


def layers(located: Localization) -> list[int]:
    """Layers of which something is selected."""
    return sorted({int(re.findall(r"\d+", name)[0]) for name, count in located.mask.counts.items() if count})


def selected(located: Localization) -> set[str]:
    return {name for name, count in located.mask.counts.items() if count}


def test_parts_of_a_llama(model: LlamaForCausalLM) -> None:
    names = [name for name, _ in model.named_parameters()]
    for layer, part in enumerate(mlps(model)):
        assert set(part) == {name for name in names if f"layers.{layer}.mlp" in name}
    found = sorted(name for (name,) in matrices(model))
    assert found == sorted(name for name in names if re.search("self_attn|mlp", name))


def test_fused_matrices_count_once_and_biases_go_with_them() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8))
    neox = GPTNeoXForCausalLM(
        GPTNeoXConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=8, intermediate_size=16, vocab_size=16)
    )
    for model in (gpt2, neox):  # qkv, o, up, down
        parts = matrices(model)
        assert len(parts) == 2 * 4
        assert all([name.rpartition(".")[2] for name in part] == ["weight", "bias"] for part in parts)
        assert [len(part) for part in mlps(model)] == [4, 4]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fraction=st.floats(0.01, 0.44), seed=st.integers(0, 999), parts=st.sampled_from(["mlps", "matrices"]))
def test_the_budget_is_reached_and_passed_by_less_than_a_part(
    subject: Subject, fraction: float, seed: int, parts: Literal["mlps", "matrices"], task: Task
) -> None:
    located = RandomParts(parts=parts, select=fraction, seed=seed).localize(subject, task, 0)
    numbers, largest = located.numbers, MLP if parts == "mlps" else MLP // 3
    assert located.mask.selected == numbers["parameters"]
    assert fraction * located.mask.total <= numbers["parameters"] < fraction * located.mask.total + largest
    assert numbers["budget"] - 1 < fraction * located.mask.total <= numbers["budget"]
    assert numbers["budget_ratio"] == numbers["parameters"] / numbers["budget"]
    assert all(located.mask.is_whole(name) for name in located.mask.shapes)


def test_a_number_of_weights_or_of_parts(subject: Subject, task: Task) -> None:
    two = RandomParts(parts="mlps", parameters=MLP + 1).localize(subject, task, 0)
    assert two.mask.selected == 2 * MLP
    assert two.numbers["budget_ratio"] == 2 * MLP / (MLP + 1)
    exact = RandomParts(parts="mlps", parameters=MLP).localize(subject, task, 0)
    assert exact.mask.selected == MLP
    five = RandomParts(parts="matrices", count=5).localize(subject, task, 0)
    assert len(selected(five)) == five.numbers["parts"] == 5


def test_the_seed_decides_and_every_layer_has_its_turn(subject: Subject, task: Task) -> None:
    drawn = Counter(tuple(layers(RandomParts(count=2, seed=seed).localize(subject, task, 0))) for seed in range(300))
    assert set(drawn) == {(0, 1), (0, 2), (1, 2)}
    assert all(70 < times < 130 for times in drawn.values())  # 100 each, within 3.7 standard deviations
    run, own = RandomParts(count=2).localize(subject, task, 0), RandomParts(count=2, seed=0)
    assert run.mask.digest == own.localize(subject, task, 0).mask.digest  # the run's seed is 0


def test_the_gate_is_drawn_too(subject: Subject, task: Task) -> None:
    drawn = [selected(RandomParts(parts="matrices", count=1, seed=s).localize(subject, task, 0)) for s in range(150)]
    assert len({name for (name,) in drawn}) == 7 * 3


def test_too_much_is_an_error(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match="4 mlps are wanted, but the model has 3"):
        RandomParts(count=4).localize(subject, task, 0)
    with pytest.raises(UserError, match=f"all of its 3 mlps have {3 * MLP} "):
        RandomParts(select=1.0).localize(subject, task, 0)
    with pytest.raises(ValueError, match="one budget"):
        RandomParts(parameters=5, count=3)
