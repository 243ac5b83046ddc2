"""Streamed mean gradients against plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from plain_gradients import mean, row_gradients
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.data.prompt import Encoded
from unlearn.localize.weights.gradients import mean_gradients

if TYPE_CHECKING:
    from unlearn.models.subject import Subject


@pytest.fixture
def rows(subject: Subject) -> list[Encoded]:
    """Of different lengths, answers of 2 to 24 tokens."""
    pairs = [("Who is it?", "B"), ("Where?", "In the old town of Rome."), ("When was it?", "In May."), ("How?", "So.")]
    return subject.prompt.encode_all(subject.processor, pairs)


def names(model: torch.nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def assert_close(mine: Any, expected: Any) -> None:
    assert mine.keys() == expected.keys()
    for name in expected:
        assert mine[name].dtype == torch.float32
        torch.testing.assert_close(mine[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 60, 70, 1000])
@pytest.mark.parametrize("passes", [1, 2, 5, 100])
def test_mean_of_the_rows_gradients(model: LlamaForCausalLM, rows: list[Encoded], budget: int, passes: int) -> None:
    expected = mean(row_gradients(model, rows))
    done: list[int] = []
    gradients = mean_gradients(model, rows, names(model), budget, passes, advance=done.append)
    assert_close(gradients.means, expected)
    assert gradients.mean_square is None
    assert sum(done) % len(rows) == 0
    assert sum(done) // len(rows) <= passes
    assert (passes > 2) or sum(done) == len(rows) * passes


@pytest.mark.parametrize("passes", [1, 3])
def test_squares_of_the_rows_gradients(model: LlamaForCausalLM, rows: list[Encoded], passes: int) -> None:
    each = row_gradients(model, rows)
    gradients = mean_gradients(model, rows, names(model), 1000, passes, squares=True)
    assert_close(gradients.means, mean(each))
    total = sum(float(gradient.double().square().sum()) for gradient in each.values())
    weights = sum(p.numel() for p in model.parameters())
    assert gradients.mean_square == pytest.approx(total / weights / len(rows), rel=1e-5)


def test_tied_weights_have_one_gradient(rows: list[Encoded]) -> None:
    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes, tie_word_embeddings=True)).eval()
    expected = mean(row_gradients(model, rows))
    assert "lm_head.weight" not in expected
    assert_close(mean_gradients(model, rows, names(model), 100).means, expected)


def test_of_some_parameters_alone(model: LlamaForCausalLM, rows: list[Encoded]) -> None:
    some = [name for name in names(model) if "layers.1.mlp" in name]
    expected = {name: g for name, g in mean(row_gradients(model, rows)).items() if name in some}
    gradients = mean_gradients(model, rows, some, 1000, squares=True)
    assert_close(gradients.means, expected)
    squares = sum(float(g.square().sum()) for name, g in row_gradients(model, rows).items() if name in some)
    assert gradients.mean_square == pytest.approx(squares / sum(g.numel() for g in expected.values()) / 4, rel=1e-5)


def test_gradients_never_meet(model: LlamaForCausalLM, rows: list[Encoded]) -> None:
    """As a parameter's gradient is ready, no other one is held."""
    held: list[int] = []

    def count(parameter: Tensor) -> None:
        held.append(sum(p.grad is not None for p in model.parameters()))

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    mean_gradients(model, rows, names(model), 60)
    assert max(held) == 1
    assert len(held) >= 2 * len(names(model))


def test_the_model_is_given_back_as_it_was(model: LlamaForCausalLM, rows: list[Encoded]) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = set(names(model)[::3])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    model.train()

    def check() -> None:
        assert model.training
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name])
            assert parameter.grad is None
            assert parameter.requires_grad == (name not in frozen)
            assert not parameter._post_accumulate_grad_hooks

    mean_gradients(model, rows, names(model), 60, passes=2)
    check()
    with pytest.raises(IndexError):  # an id beyond the vocabulary
        mean_gradients(model, [*rows, Encoded((10**6, 1, 1), 1)], names(model), 60)
    check()


def test_rows_that_are_done_again_are_told_of_once(model: LlamaForCausalLM, rows: list[Encoded]) -> None:
    """Memory runs out in the second batch, once, with one batch already told of."""
    batches: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))

    def fail(gradient: Tensor) -> None:
        if len(batches) == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")

    model.model.embed_tokens.weight.register_hook(fail)
    done: list[int] = []
    mean_gradients(model, rows, names(model), 2 * max(len(row.ids) for row in rows), passes=1, advance=done.append)
    assert batches[0] > 0
    assert sum(batches) > len(rows)  # some rows were done twice
    assert sum(done) == len(rows)
    assert min(done) > 0


def test_where_memory_runs_out_batches_are_made_smaller(model: LlamaForCausalLM, rows: list[Encoded]) -> None:
    """The failure comes at the end of backward, when the sums of most parameters are already touched."""
    expected = mean(row_gradients(model, rows))
    sizes: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))

    def fail(gradient: Tensor) -> None:
        if sizes[-1] > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate")

    handle = model.model.embed_tokens.weight.register_hook(fail)
    done: list[int] = []
    assert_close(mean_gradients(model, rows, names(model), 1000, advance=done.append).means, expected)
    assert sum(done) == len(rows)
    assert sizes[0] == 4
    assert sizes[-4:] == [1, 1, 1, 1]
    handle.remove()

    def always(gradient: Tensor) -> None:
        sizes.append(99)
        fail(gradient)

    model.model.embed_tokens.weight.register_hook(always)
    with pytest.raises(RuntimeError, match="out of memory"):
        mean_gradients(model, rows, names(model), 1000)
