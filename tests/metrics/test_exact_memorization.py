from __future__ import annotations

import pytest

from unlearn.metrics.exact_memorization import ExactMemorization


def test_share_of_hits_without_the_last_token(make_scores) -> None:
    scores = make_scores(
        forget=[
            {"answer": [-1] * 5, "hit": [True, False, True, True, False], "perturbed": [[-1]]},
            {"answer": [-1] * 3, "hit": [False, False, True]},
            {"answer": [-1], "hit": [True]},  # EOS alone: left out
            {"answer": [-1] * 2, "hit": [False, True], "eos": False},
        ],
        retain=[{"answer": [-1] * 2, "hit": [True, False]}],
    )
    forget, retain = ExactMemorization()(scores, {})
    assert forget.items == pytest.approx([0.75, 0, float("nan"), 0.5], nan_ok=True)
    assert (forget.key, forget.value, forget.n) == ("forget/exact_memorization", 1.25 / 3, 3)
    assert (retain.probe, retain.value) == ("retain", 1)
