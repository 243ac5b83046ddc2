from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unlearn.attacks.prompts.bounds import (
    best_of,
    binary_bound,
    deviation_bound,
    expectation_bound,
    general_bound,
    leak_at,
    margin,
)

SCORES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1, width=16))
ALPHAS = st.sampled_from([0.01, 0.05, 0.5])


@pytest.mark.parametrize(("n", "correct"), [(1, 0), (1, 1), (6, 0), (6, 2), (6, 6), (8, 3)])
def test_leak_at_k_is_the_share_of_all_subsets_with_a_correct_sample(n: int, correct: int) -> None:
    samples = [1] * correct + [0] * (n - correct)
    for k in range(1, n + 1):
        subsets = list(combinations(samples, k))
        assert leak_at(correct, n, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@given(arrays(np.float64, 7, elements=st.floats(0, 1)), st.integers(1, 7))
def test_the_best_of_k_is_the_mean_maximum_over_all_subsets(scores: np.ndarray, k: int) -> None:
    expected = np.mean([max(subset) for subset in combinations(scores, k)])
    assert best_of(scores, k) == pytest.approx(expected)
    assert best_of(np.stack([scores, scores[::-1]]), k) == pytest.approx([expected] * 2)


@given(st.integers(1, 64), st.data())
def test_of_zeros_and_ones_the_best_of_k_is_leak_at_k(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert best_of(np.r_[np.ones(correct), np.zeros(n - correct)], k) == pytest.approx(leak_at(correct, n, k))


def test_binary_bound_of_no_hit_is_where_n_misses_are_that_unlikely() -> None:
    assert binary_bound(0, 32, 0.01) == pytest.approx(1 - 0.01 ** (1 / 32))
    assert binary_bound(0, 32, 0.01) == pytest.approx(0.134, abs=5e-4)
    assert binary_bound(32, 32, 0.01) == 1.0


@given(st.integers(2, 60), st.data(), ALPHAS)
def test_binary_bound_is_the_chance_at_which_so_few_hits_are_that_unlikely(
    n: int, data: st.DataObject, alpha: float
) -> None:
    hits = data.draw(st.integers(0, n - 1))
    p = binary_bound(hits, n, alpha)
    so_few = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(hits + 1))
    assert so_few == pytest.approx(alpha, rel=1e-6)


@given(SCORES, ALPHAS)
def test_expectation_bound_is_the_integral_and_at_least_the_mean(scores: np.ndarray, alpha: float) -> None:
    grid = (np.arange(2_000) + 0.5) / 2_000
    above = (scores[None] > grid[:, None]).mean(axis=1)
    integral = np.minimum(1, above + margin(len(scores), alpha)).mean()
    bound = expectation_bound(scores, alpha)
    assert bound == pytest.approx(integral, abs=2e-3)
    assert 1 + 1e-12 >= bound >= scores.mean() - 1e-12


@given(SCORES, ALPHAS, st.floats(0, 1))
def test_general_bound_is_at_least_the_share_above(scores: np.ndarray, alpha: float, x: float) -> None:
    e = math.sqrt(-math.log(alpha) / (2 * len(scores)))
    assert general_bound(scores, x, alpha) == pytest.approx(min(1, sum(s > x for s in scores) / len(scores) + e))


@given(SCORES, ALPHAS)
def test_deviation_bound_is_at_least_the_deviation(scores: np.ndarray, alpha: float) -> None:
    assert scores.std() - 1e-9 <= deviation_bound(scores, alpha) <= 0.5


def test_bounds_narrow_to_what_they_bound() -> None:
    scores = np.linspace(0, 1, 2_000_001)
    assert expectation_bound(scores, 0.01) == pytest.approx(0.5, abs=2e-3)
    assert deviation_bound(scores, 0.01) == pytest.approx(math.sqrt(1 / 12), abs=5e-3)


@pytest.mark.parametrize(("n", "width"), [(32, 0.26), (128, 0.13), (1024, 0.04)])
def test_expectation_bound_lies_so_far_above_the_mean(n: int, width: float) -> None:
    """K ~ Beta(1, 4): the widths that an independent simulation gave."""
    scores = np.random.default_rng(0).beta(1, 4, (200, n))
    assert np.mean([expectation_bound(row, 0.01) - row.mean() for row in scores]) == pytest.approx(width, abs=0.01)
