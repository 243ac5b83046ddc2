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


SCRIPTS = {
    "Russian": (
        "Она родилась в Осло",
        "Она родилась в Риме",
        3 / 4,
    ),
    "Hindi": (
        "वह दिल्ली में जन्मी",
        "वह दिल में जन्मी",
        3 / 4,
    ),
    "Arabic": (
        "ولد في القاهرة",
        "ولد في بغداد",
        2 / 3,
    ),
    "Hebrew": (
        "נולד בחיפה",
        "נולד בעכו",
        1 / 2,
    ),
    "Greek": (
        "ΖΕΙ στην Αθήνα",
        "ζει στη Πάτρα",
        1 / 3,
    ),
    "Korean": ("그는 서울에서", "그는 부산에서", 1 / 2),
    "Japanese": (
        "東京で生まれた。",
        "大阪で生まれた",
        5 / 7,
    ),
    "Chinese": ("他生于北京", "他生于上海", 3 / 5),
    "Thai": ("ที่นี่", "ที่นั้น", 1 / 2),
    "Burmese": ("မြန်မာ", "မြန်", 2 / 3),
    "mixed": ("born in 東京", "born in 京都", 3 / 4),
    "accents alone": ("Ø é", "ø", 1 / 2),
}


@pytest.mark.parametrize("script", [*SCRIPTS])
def test_every_script_counts(script: str) -> None:
    reference, other, share = SCRIPTS[script]
    assert rouge([reference] * 2, [reference, other], "rougeL", "recall") == pytest.approx([1, share])


def test_a_reference_without_words_has_no_value() -> None:
    assert np.isnan(rouge(["?!", "", " \u2026"], ["the", "?!", ""], "rougeL", "f1")).all()


def test_it_is_googles_where_the_script_is_latin() -> None:
    """Also beside accents, digits, signs and units, which rouge_score cuts words at."""
    from rouge_score.rouge_scorer import RougeScorer

    texts = [
        "The cats' 2nd café, in Zürich: 5 \u00b5m \u00b2",
        "a cat sat in 2nd cafe Zurich",
        "the cat\u2019s running \u2014 m",
    ]
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for reference in texts:
        for variant in ("rouge1", "rougeL"):
            expected = [scorer.score(reference, text)[variant].fmeasure for text in texts]
            assert rouge([reference] * 3, texts, variant, "f1").tolist() == expected


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
