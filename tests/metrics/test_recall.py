from __future__ import annotations

import pytest

from unlearn.data.words import contains
from unlearn.metrics.recall import Recall


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("She was born in Rome.", "Rome", True),
        ("she was born in rome", "Rome", True),
        ("A romerian tale", "Rome", False),
        ("Romeo", "Rome", False),
        ("the book 'The Red Door', of course", "The Red Door", True),
        ("The Red  Door", "The Red Door", False),
        ("born in 1950", "195", False),
        ("C++ and others", "C++", True),
        ("Zürich", "Zürich", True),
        ("", "Rome", False),
    ],
)
def test_contains_whole_words(text: str, value: str, expected: bool) -> None:
    assert contains(text, value) == expected


def test_share_of_answers_with_the_value(make_scores) -> None:
    item = {"answer": [-1], "value": "Rome"}
    scores = make_scores(
        forget=[
            {**item, "generation": "in Rome"},
            {**item, "generation": "in Oslo"},
            {"answer": [-1], "generation": "x"},
        ],
        world=[{"answer": [-1], "generation": "Rome"}],
    )
    [result] = Recall()(scores, {})
    assert (result.key, result.value, result.n) == ("forget/recall", 0.5, 2)
    assert result.items.tolist() == [1, 0]


def test_nothing_to_say_without_generations(make_scores) -> None:
    assert Recall()(make_scores(forget=[{"answer": [-1], "value": "Rome"}]), {}) == []
