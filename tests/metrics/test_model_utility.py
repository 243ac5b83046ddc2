from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unlearn.metrics.model_utility import ModelUtility


def item(right: float, wrong: float, generation: str = "a b") -> dict[str, object]:
    texts = {"generation": generation, "reference": "a b c d"}
    return {"answer": [right], "paraphrase": [right - 1], "perturbed": [[wrong], [wrong]], **texts}


def test_harmonic_mean_of_three_numbers_per_set(make_scores) -> None:
    scores = make_scores(
        forget=[item(-9, -1)],
        retain=[item(-0.5, -3), item(-1, -3, "a")],
        world=[item(-0.2, -4), item(-0.2, -4)],
        holdout=[item(-9, -1)],
    )
    [result] = ModelUtility()(scores, {})
    p_world = math.exp(-0.2) / (math.exp(-0.2) + 2 * math.exp(-4))
    retain = [(math.exp(-0.5) + math.exp(-1)) / 2, (1 / 2 + 1 / 4) / 2, (1 - math.exp(-1.5) + 1 - math.exp(-1)) / 2]
    expected = stats.hmean([*retain, p_world, 1 / 2, 1 - math.exp(-2.8)])
    assert (result.key, result.n) == ("model_utility", 4)
    assert result.value == pytest.approx(expected, rel=1e-6)
    assert result.low < result.value < result.high


def test_one_zero_makes_it_zero(make_scores) -> None:
    [result] = ModelUtility()(make_scores(retain=[item(-1, -3, "nothing")], world=[item(-1, -3)]), {})
    assert result.value == 0


@pytest.mark.parametrize(
    ("retain", "note"),
    [
        ({"answer": [-1], "perturbed": [[-2]]}, "no generated answers of probe set 'retain'"),
        ({"answer": [-1], "generation": "a", "reference": "a"}, "no perturbed answers of probe set 'retain'"),
    ],
)
def test_what_is_missing_is_named(make_scores, retain: dict[str, object], note: str) -> None:
    [result] = ModelUtility()(make_scores(retain=[retain]), {})
    assert math.isnan(result.value)
    assert result.note == note


def test_sets_that_are_not_generated_from_do_not_count(make_scores) -> None:
    choice = {"answer": [-9], "perturbed": [[-0.1]]}
    [result], [alone] = (
        ModelUtility()(make_scores(retain=[item(-1, -3)], **more), {}) for more in ({"maintain_choice": [choice]}, {})
    )
    assert (result.value, result.n) == (alone.value, 1)


def test_without_sets(make_scores) -> None:
    [result] = ModelUtility()(make_scores(forget=[item(-1, -2)]), {})
    assert math.isnan(result.value)
    assert np.isnan([result.low, result.high]).all()
