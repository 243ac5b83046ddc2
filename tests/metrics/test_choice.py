from __future__ import annotations

import math

import pytest

from unlearn.metrics.choice import Choice


def item(answer: list[float], *wrong: list[float], cluster: str = "") -> dict[str, object]:
    return {"answer": answer, "perturbed": list(wrong), "cluster": cluster}


def test_the_likeliest_sum_wins(make_scores) -> None:
    scores = make_scores(
        world=[
            item([-1], [-2], [-3]),
            item([-1, -1, -1], [-2.5], [-4]),  # the better mean, but the lower sum
            item([-2], [-2], [-3]),  # a tie shares the point
        ]
    )
    [result] = Choice()(scores, {})
    assert (result.key, result.n, result.note) == (
        "world/choice",
        3,
        "chance 0.33; 3 clusters: t interval",
    )
    assert result.items.tolist() == [1, 0, 0.5]
    assert result.low <= result.value == 0.5 <= result.high


def test_rotations_of_a_question_count_once(make_scores) -> None:
    right, wrong = ([-1.0], [-2.0], [-2.0], [-2.0]), ([-2.0], [-1.0], [-2.0], [-2.0])
    rows = [*[item(*right, cluster="a")] * 4, item(*right, cluster="b"), *[item(*wrong, cluster="b")] * 3]
    [result] = Choice()(make_scores(forget_choice=[*rows, item(*wrong, cluster="c")]), {})
    assert result.items.tolist() == [1, 0.25, 0]
    assert (result.n, result.note) == (
        3,
        "chance 0.25; 3 clusters: t interval",
    )
    assert result.value == pytest.approx(1.25 / 3)


def test_paraphrases_are_no_options(make_scores) -> None:
    [result] = Choice()(make_scores(world=[{"answer": [-1], "paraphrase": [-0.1], "perturbed": [[-2]]}]), {})
    assert (result.value, result.note) == (1, "chance 0.50; n too small for an interval")


def test_only_sets_of_options(make_scores) -> None:
    two = item([-1], [-2])
    scores = make_scores(forget=[two], retain=[two], world=[{"answer": [-1]}], holdout=[two])  # normalise: world alone
    assert Choice()(scores, {}) == []


def test_nan_is_never_right(make_scores) -> None:
    [result] = Choice()(make_scores(world=[item([math.nan], [-2]), item([-1], [-2])]), {})
    assert result.items.tolist() == [0, 1]
