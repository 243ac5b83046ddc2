"""Directions, against numpy, and what ablating them does to every supported layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import family

from unlearn.attacks.internals.directions import ablated, component, difference, token_states, typical
from unlearn.models.layout import layout
from unlearn.score.residuals import last_residuals

PROMPTS = [(5, 6, 7), (8, 9), (3, 4, 5, 6, 7, 8)]


def states(layers: int, n: int, seed: int) -> torch.Tensor:
    return torch.randn(layers, n, 5, generator=torch.Generator().manual_seed(seed))


def test_difference_of_means() -> None:
    these, those = states(2, 4, 0), states(2, 7, 1)
    gap = these.numpy().mean(1) - those.numpy().mean(1)
    np.testing.assert_allclose(difference(these, those), gap / np.linalg.norm(gap, axis=1, keepdims=True), rtol=1e-5)
    assert not difference(these, these).any()  # where there is no difference nothing is taken out


def test_component_is_the_direction_of_most_variance() -> None:
    these, those = states(2, 6, 2) * torch.tensor([1.0, 1, 9, 1, 1]), states(2, 8, 3)
    found = component(these, those).numpy()
    for layer in range(2):
        both = np.concatenate([these[layer], those[layer]])
        values, vectors = np.linalg.eigh(np.cov(both.T))
        assert abs(vectors[:, values.argmax()] @ found[layer]) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "gemma2"])
def test_states_at_tokens_are_those_of_prompts_that_end_there(name: str) -> None:
    model = family(name)
    prompts, places = [(5, 6, 7), (8, 9), (3, 4, 5, 6, 7, 8)], [(1, 2), (), (0, 3)]
    ends = [prompt[: place + 1] for prompt, its in zip(prompts, places, strict=True) for place in its]
    expected = last_residuals(model, ends, 100)
    for budget in (100, 1):
        torch.testing.assert_close(token_states(model, prompts, places, budget), expected)


def test_outliers_by_hand() -> None:
    """Of 19 states at 0 and one at (2, 2) the mean is (0.1, 0.1): distances 0.2 and 3.8, their mean 0.38 and deviation
    0.785, so that z = 4.4. Of 5 states one can be no more than 2 deviations off.
    """
    states = torch.zeros(20, 2)
    states[3] = 2.0
    assert typical(states).tolist() == [i != 3 for i in range(20)]
    assert typical(states[:5]).all()
    assert typical(states[:1]).all()


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "gemma2"])
def test_nothing_is_left_along_the_direction(name: str) -> None:
    model = family(name)
    plain = last_residuals(model, PROMPTS, 100)
    directions = torch.nn.functional.normalize(torch.randn(3, 16), dim=-1)
    directions[1] = 0
    with ablated(model, directions):
        seen = last_residuals(model, PROMPTS, 100)
    assert (seen[[0, 2]] * directions[[0, 2], None]).sum(-1).abs().max() < 1e-4
    inside = plain[0] - (plain[0] @ directions[0])[:, None] * directions[0]
    torch.testing.assert_close(seen[0], inside)
    torch.testing.assert_close(last_residuals(model, PROMPTS, 100), plain)


def test_no_hook_is_left_behind_by_an_error() -> None:
    model = family("llama")
    with pytest.raises(RuntimeError), ablated(model, torch.zeros(3, 16)):
        raise RuntimeError
    assert not any(block.module._forward_hooks for block in layout(model).blocks)
