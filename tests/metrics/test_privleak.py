from __future__ import annotations

import math
from typing import Any

import pytest

from unlearn.metrics.privleak import PrivLeak


def rows(*losses: float) -> list[dict[str, object]]:
    return [{"answer": [-loss, -1.0]} for loss in losses]


def test_relative_to_the_control_model(make_scores) -> None:
    scores = make_scores(forget=rows(1, 2, 3, 4), holdout=rows(3.5, 5))  # AUC 7/8
    control = make_scores(forget=rows(3, 4, 5, 6), holdout=rows(3.5, 5.5))  # AUC 4/8
    [result] = PrivLeak()(scores, {"control": control})
    assert result.key == "forget/privleak"
    assert result.value == pytest.approx(100 * ((1 - 7 / 8) - 1 / 2) / (1 / 2))
    assert result.low <= result.value <= result.high
    [alike] = PrivLeak()(control, {"control": control})
    assert (alike.value, alike.low, alike.high) == (0, 0, 0)


def test_without_a_control_model_chance_stands_in(make_scores) -> None:
    [result] = PrivLeak()(make_scores(forget=rows(1, 2), holdout=rows(3, 4)), {})
    assert result.value == pytest.approx(-100)


def test_without_a_holdout_set(make_scores) -> None:
    scores = make_scores(forget=rows(1, 2))
    whole = make_scores(forget=rows(1, 2), holdout=rows(1))
    references: Any
    for tables, references, who in ((scores, {}, "(model)"), (whole, {"control": scores}, "(control model)")):
        [result] = PrivLeak()(tables, references)
        assert math.isnan(result.value)
        assert who in result.note
