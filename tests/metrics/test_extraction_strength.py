from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.metrics.extraction_strength import ExtractionStrength, extraction_strength


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_smallest_number_of_given_tokens(hit: list[bool]) -> None:
    ends = [k for k in range(len(hit)) if all(hit[k:])]
    k = ends[0] if ends else len(hit) - 1
    assert extraction_strength(np.array(hit)) == pytest.approx(1 - k / len(hit))


def test_no_token() -> None:
    assert extraction_strength(np.empty(0, dtype=bool)) == 0


def test_result(make_scores) -> None:
    hits = ([False, True, True, True, False], [True, True, False], [False, False])  # the last one is EOS
    scores = make_scores(forget=[{"answer": [-1] * len(hit), "hit": hit} for hit in hits])
    [result] = ExtractionStrength()(scores, {})
    assert result.items == pytest.approx([0.75, 1, 1])
    assert (result.key, result.n) == ("forget/extraction_strength", 3)


def test_answers_of_one_token_say_nothing(make_scores) -> None:
    one = {"answer": [-1], "hit": [False], "eos": False}
    [result] = ExtractionStrength()(make_scores(forget=[one, one]), {})
    assert (result.note, result.n) == ("every answer is one token", 0)
    [result] = ExtractionStrength()(make_scores(forget=[one, {"answer": [-1] * 2, "eos": False}]), {})
    assert result.items.tolist() == [1, 1]
