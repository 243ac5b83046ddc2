"""Scores of weights, and the highest of them, against the plain way."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bigram import PROMPT, random_llama, tokenizer
from families import family
from helpers import encode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unlearn.attacks.weights.saliency import magnitude_cut, ranks, weight_scores
from unlearn.data.prompt import Encoded
from unlearn.models.linear import linear_weights


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_scores_are_means_over_rows_of_weight_times_gradient(name: str) -> None:
    model = family(name)
    rows = [encode("ab", "cde"), encode("fgh", "i"), encode("j", "klmn")]
    found = weight_scores(model, rows)
    parameters = dict(model.named_parameters())
    assert set(found) == {name for name, _ in linear_weights(model)}
    wanted = {name: torch.zeros_like(parameters[name]) for name in found}
    for row in rows:
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[:, : row.n_prompt] = -100
        model.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        for name in found:
            gradient = parameters[name].grad
            assert gradient is not None
            wanted[name] += (parameters[name] * gradient).abs().detach() / 3
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-7)


def test_the_model_is_given_back_as_it_was() -> None:
    model = random_llama().train()
    model.model.norm.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    weight_scores(model, [PROMPT.encode(tokenizer(), "a b", "c")])
    assert model.training
    assert all(p.grad is None and p.requires_grad != (n == "model.norm.weight") for n, p in model.named_parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32, allow_subnormal=False), unique=True),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=4, unique=True),
)
def test_ranks_are_the_first_share_that_holds_a_weight(scores: np.ndarray, shares: list[float]) -> None:
    shares = sorted(shares)
    order = np.argsort(-scores)
    place = np.empty(len(scores), int)
    place[order] = np.arange(len(scores))
    wanted = [
        next((i for i, s in enumerate(shares) if place[k] < int(s * len(scores)) and scores[k] > 0), len(shares))
        for k in range(len(scores))
    ]
    assert ranks(torch.from_numpy(scores), shares).tolist() == wanted


def test_weights_without_influence_are_in_no_top() -> None:
    assert ranks(torch.tensor([[0.0, 0.5], [0.0, 0.0]]), [0.5, 1.0]).tolist() == [[2, 0], [2, 2]]


@given(
    st.lists(arrays(np.float32, st.integers(1, 30), elements=st.floats(-9, 9, width=32)), min_size=1, max_size=3),
    st.floats(0.001, 0.999),
)
def test_the_cut_is_the_magnitude_of_the_wanted_rank(parts: list[np.ndarray], share: float) -> None:
    everything = np.sort(np.abs(np.concatenate(parts)))
    n = int(share * len(everything))
    wanted = everything[n - 1] if n else -1.0
    assert magnitude_cut([torch.from_numpy(part) for part in parts], share) == wanted


def test_one_row_is_enough() -> None:
    model = random_llama(layers=1)
    row = Encoded((1, 2, 3), 1)
    assert all(torch.isfinite(score).all() for score in weight_scores(model, [row]).values())
