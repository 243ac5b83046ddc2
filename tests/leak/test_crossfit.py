"""The cross-fitted leak: by hand, against brute force, and over repeated draws of what is and is not there."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import simulated

from unlearn.leak.crossfit import Candidates, estimate


def candidates(o: np.ndarray, u: np.ndarray, r: np.ndarray) -> Candidates:
    """Attacks of one variant and one seed each, from [C, V]."""
    return Candidates(o[:, None], u[:, None], r[:, None], np.arange(len(o)))


def test_one_attack_is_its_plain_ratio() -> None:
    o, u, r = np.array([[1.0, 1, 1, 0]]), np.array([[1.0, 0, 1, 0]]), np.array([[0.0, 0, 1, 0]])
    found = estimate(candidates(o, u, r), list("abcd"), draws=100)
    assert (found.original, found.unlearned, found.control) == (0.75, 0.5, 0.25)
    assert found.leak == pytest.approx(0.5)


def test_items_that_a_variant_cannot_ask_are_left_out_for_every_model() -> None:
    o, u, r = np.array([[1.0, np.nan, 1, 0]]), np.array([[1.0, 1, 0, 0]]), np.array([[0.0, 1, 0, np.nan]])
    found = estimate(candidates(o, u, r), list("abcd"), draws=50)
    assert (found.original, found.unlearned, found.control) == (1.0, 0.5, 0.0)


def test_the_same_model_leaks_all_and_the_control_nothing() -> None:
    rng = np.random.default_rng(1)
    o, r = rng.random((5, 60)) < 0.9, rng.random((5, 60)) < 0.2
    clusters = [str(i // 6) for i in range(60)]
    for u, leak in ((o, 1.0), (r, 0.0)):
        found = estimate(candidates(*(x.astype(float) for x in (o, u, r))), clusters, draws=200)
        assert found.leak == pytest.approx(leak)
        assert found.low == pytest.approx(leak) == found.high


def test_the_choice_is_made_on_the_other_half() -> None:
    """By brute force over all splits of four items into halves."""
    u = np.array([[1.0, 0, 0, 0], [0.0, 1, 1, 0]])
    o, r = np.ones((2, 4)), np.zeros((2, 4))
    from itertools import combinations

    reads = []
    for half in combinations(range(4), 2):
        best = u[:, half].mean(axis=1).argmax()
        reads.append(u[best, [i for i in range(4) if i not in half]].mean())
    found = estimate(candidates(o, u, r), list("abcd"), splits=4000, draws=20)
    assert found.leak == pytest.approx(np.mean(reads), abs=0.02)
    assert found.chosen.sum() == 8000


def test_seeds_widen_the_interval() -> None:
    o, r = np.ones((1, 3, 50)), np.zeros((1, 3, 50))
    u = np.stack([np.zeros(50), np.full(50, 0.5), np.ones(50)])[None]
    found = estimate(Candidates(o, u, r, np.zeros(1, int)), [str(i) for i in range(50)], draws=500)
    assert found.leak == pytest.approx(0.5)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("n", "leak", "tolerance", "times"),
    [(40, 0.0, 0.03, 300), (200, 0.0, 0.02, 100), (400, 0.0, 0.02, 50), (200, 0.5, 0.03, 100)],
)
def test_the_worst_case_of_twelve_attacks_is_not_biased(n: int, leak: float, tolerance: float, times: int) -> None:
    rng = np.random.default_rng(n)
    clusters = [str(i // 5) for i in range(n)]
    drawn = [candidates(*simulated(rng, n, (12,), leak)) for _ in range(times)]
    found = [estimate(one, clusters, seed, draws=2).leak for seed, one in enumerate(drawn)]
    assert np.mean(found) == pytest.approx(leak, abs=tolerance)


@pytest.mark.parametrize("leak", [0.0, 0.5])
def test_the_interval_of_an_attack_covers_the_truth(leak: float) -> None:
    assert 0.90 <= coverage(leak, attacks=1) <= 0.99


@pytest.mark.parametrize("leak", [0.0, 0.5])
@pytest.mark.parametrize(("attacks", "seeds"), [(12, 1), (1, 3)])
def test_the_interval_of_several_attacks_or_seeds_errs_on_the_wide_side(attacks: int, seeds: int, leak: float) -> None:
    """A resample takes one attack and one seed, where the estimate is a mean over several."""
    assert coverage(leak, attacks, seeds, times=100) >= 0.95


def coverage(leak: float, attacks: int, seeds: int = 1, n: int = 80, times: int = 150) -> float:
    """The share of intervals with the truth in them."""
    rng = np.random.default_rng(3)
    clusters = [str(i // 2) for i in range(n)]
    inside = 0
    for seed in range(times):
        made = Candidates(*simulated(rng, n, (attacks, seeds), leak), np.arange(attacks))
        found = estimate(made, clusters, seed, splits=20, draws=200)
        inside += found.low <= leak <= found.high
    return inside / times
