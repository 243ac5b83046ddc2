from __future__ import annotations

import math

import pytest

from unlearn.metrics.probability import Probability

ITEMS = [
    {"answer": [-1, -3], "paraphrase": [-4], "perturbed": [[-1], [-2, -4]]},
    {"answer": [-0.5], "paraphrase": [-1, -1], "perturbed": [[-2], [-2]]},
]


@pytest.mark.parametrize(
    ("candidate", "name", "expected"),
    [
        ("answer", "probability", [math.exp(-2), math.exp(-0.5)]),
        ("paraphrase", "paraphrase_probability", [math.exp(-4), math.exp(-1)]),
        ("perturbed", "perturbed_probability", [(math.exp(-1) + math.exp(-3)) / 2, math.exp(-2)]),
    ],
)
def test_exponential_of_the_mean_log_probability(make_scores, candidate, name: str, expected: list[float]) -> None:
    [result] = Probability(candidate)(make_scores(forget=ITEMS), {})
    assert (result.name, result.probe, result.key, result.n) == (name, "forget", f"forget/{name}", 2)
    assert result.items == pytest.approx(expected)
    assert result.value == pytest.approx(sum(expected) / 2)
    error = 12.706 * abs(expected[0] - expected[1]) / 2  # Student's t with one degree of freedom
    ends = max(result.value - error, 0), min(result.value + error, 1)
    assert (result.low, result.high) == pytest.approx(ends, abs=1e-3)


def test_the_answer_alone_is_normalised_over_the_options(make_scores) -> None:
    scores = make_scores(world=ITEMS[:1])
    wrong = math.exp(-1) + math.exp(-3)
    assert Probability()(scores, {})[0].value == pytest.approx(math.exp(-2) / (math.exp(-2) + wrong))
    assert Probability("paraphrase")(scores, {})[0].value == pytest.approx(math.exp(-4))
    assert Probability("perturbed")(scores, {})[0].value == pytest.approx(wrong / 2)


def test_probe_sets_without_the_candidate_are_left_out(make_scores) -> None:
    scores = make_scores(forget=ITEMS, holdout=[{"answer": [-1]}])
    assert [result.probe for result in Probability()(scores, {})] == ["forget", "holdout"]
    assert [result.probe for result in Probability("perturbed")(scores, {})] == ["forget"]
    partly = make_scores(forget=[*ITEMS, {"answer": [-1]}])
    assert Probability("paraphrase")(partly, {})[0].n == 2
