from __future__ import annotations

import math

import numpy as np
import pytest

from unlearn.metrics.rouge import Rouge, rouge

REFERENCE = "the cat sat on a mat"


@pytest.mark.parametrize(
    ("text", "rouge1", "rouge_l", "words"),
    [
        ("the cat sat on a mat", 6, 6, 6),
        ("mat a on sat cat the", 6, 1, 6),
        ("The cats sat, happily!", 3, 3, 4),  # case, punctuation and endings do not count
        ("the dog sat", 2, 2, 3),
        ("dogs bark", 0, 0, 2),
        ("", 0, 0, 0),
    ],
)
def test_overlap_counted_by_hand(text: str, rouge1: int, rouge_l: int, words: int) -> None:
    for variant, found in (("rouge1", rouge1), ("rougeL", rouge_l)):
        assert rouge([REFERENCE], [text], variant, "recall") == pytest.approx([found / 6])
        assert rouge([REFERENCE], [text], variant, "f1") == pytest.approx([2 * found / (6 + words)])


def test_a_missing_reference_has_no_value() -> None:
    values = rouge([None, math.nan, REFERENCE], ["the", "the", "the"], "rouge1", "recall")  # type: ignore[list-item]
    assert values == pytest.approx([np.nan, np.nan, 1 / 6], nan_ok=True)


ITEMS = [
    {"answer": [-1], "generation": "the cat", "reference": REFERENCE, "paraphrase_text": "a cat was there"},
    {"answer": [-1], "generation": "the cat", "reference": "the cat", "paraphrase_text": "cat"},
]


@pytest.mark.parametrize(
    ("metric", "name", "expected"),
    [
        (Rouge(), "rouge", [1 / 3, 1]),
        (Rouge(reference="paraphrase"), "paraphrase_rouge", [1 / 4, 1]),
        (Rouge(statistic="f1"), "rougeL_f1", [4 / 8, 1]),
        (Rouge("rouge1"), "rouge1_recall", [1 / 3, 1]),
        (Rouge("rouge1", "f1", "paraphrase"), "paraphrase_rouge1_f1", [2 / 6, 2 / 3]),
    ],
)
def test_results(make_scores, metric: Rouge, name: str, expected: list[float]) -> None:
    [result] = metric(make_scores(retain=ITEMS), {})
    assert (result.key, result.n) == (f"retain/{name}", 2)
    assert result.items == pytest.approx(expected)
    assert result.value == pytest.approx(sum(expected) / 2)


def test_sets_without_generations_or_references_are_left_out(make_scores) -> None:
    scores = make_scores(forget=[{"answer": [-1]}], world=[{"answer": [-1], "generation": "x", "reference": "x y"}])
    assert [result.probe for result in Rouge()(scores, {})] == ["world"]
    assert Rouge(reference="paraphrase")(scores, {}) == []
