"""The cross-fitted leak: by hand, against brute force, and over repeated draws of what is and is not there."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import simulated

from unlearn.leak.crossfit import Candidates, estimate


def candidates(o: np.ndarray, u: np.ndarray, r: np.ndarray) -> Candidates:
    """Attacks of one variant and one seed each, from [C, V]."""
    return Candidates(o[:, None], u[:, None], r[:, None])


def test_one_attack_is_its_plain_ratio() -> None:
    o, u, r = np.array([[1.0, 1, 1, 0]]), np.array([[1.0, 0, 1, 0]]), np.array([[0.0, 0, 1, 0]])
    found = estimate(candidates(o, u, r), list("abcd"))
    assert (found.original, found.unlearned, found.control) == (0.75, 0.5, 0.25)
    assert found.leak == pytest.approx(0.5)


def test_items_that_a_variant_cannot_ask_are_left_out_for_every_model() -> None:
    o, u, r = np.array([[1.0, np.nan, 1, 0]]), np.array([[1.0, 1, 0, 0]]), np.array([[0.0, 1, 0, np.nan]])
    found = estimate(candidates(o, u, r), list("abcd"))
    assert (found.original, found.unlearned, found.control) == (1.0, 0.5, 0.0)


def test_the_same_model_leaks_all_and_the_control_nothing() -> None:
    rng = np.random.default_rng(1)
    o, r = rng.random((5, 60)) < 0.9, rng.random((5, 60)) < 0.2
    clusters = [str(i // 6) for i in range(60)]
    for u, leak in ((o, 1.0), (r, 0.0)):
        found = estimate(candidates(*(x.astype(float) for x in (o, u, r))), clusters)
        assert found.leak == pytest.approx(leak)


def test_the_choice_is_made_on_the_other_half() -> None:
    """By brute force over all splits of four items into halves."""
    u = np.array([[1.0, 0, 0, 0], [0.0, 1, 1, 0]])
    o, r = np.ones((2, 4)), np.zeros((2, 4))
    from itertools import combinations

    reads = []
    for half in combinations(range(4), 2):
        best = u[:, half].mean(axis=1).argmax()
        reads.append(u[best, [i for i in range(4) if i not in half]].mean())
    found = estimate(candidates(o, u, r), list("abcd"), splits=4000)
    assert found.leak == pytest.approx(np.mean(reads), abs=0.02)
    assert found.chosen.sum() == 8000


def test_what_was_read_is_what_the_estimate_rests_on() -> None:
    """Of each split one half is read under the choice of the other, so that each item is read in half of them."""
    rng = np.random.default_rng(2)
    o, u, r = rng.random((3, 4, 40))
    found = estimate(candidates(o, u, r), [str(i // 4) for i in range(40)])
    assert found.read.times == pytest.approx(50)
    for read, mean in ((found.read.original, found.original), (found.read.control, found.control)):
        assert read.shape == (1, 40)
        assert read.sum() / found.read.times.sum() == pytest.approx(mean)
    assert (found.read.unlearned <= 50 * u.max(axis=0)).all()


def test_the_mirror_is_chosen_by_how_little_it_shows() -> None:
    u = np.array([[0.5] * 8, [0.1] * 8])
    found = estimate(candidates(np.ones((2, 8)), u, np.full((2, 8), 0.5)).mirrored(), list("abcdefgh"))
    assert found.excess == pytest.approx(0.4)
    assert found.chosen.tolist() == [0, 100]


@pytest.mark.parametrize(
    ("n", "leak", "tolerance", "times"),
    [(40, 0.0, 0.03, 300), (200, 0.0, 0.02, 100), (400, 0.0, 0.02, 50), (200, 0.5, 0.03, 100)],
)
def test_the_worst_case_of_twelve_attacks_is_not_biased(n: int, leak: float, tolerance: float, times: int) -> None:
    rng = np.random.default_rng(n)
    clusters = [str(i // 5) for i in range(n)]
    drawn = [candidates(*simulated(rng, n, (12,), leak)) for _ in range(times)]
    found = [estimate(one, clusters, seed).leak for seed, one in enumerate(drawn)]
    assert np.mean(found) == pytest.approx(leak, abs=tolerance)
