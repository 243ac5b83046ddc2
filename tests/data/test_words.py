"""Words of every script, counted by hand."""

from __future__ import annotations

import pytest

from unlearn.data.words import beginning, contains, foreign, length, named, terms, whole, without_end, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She's 90, in_fact!", ["she", "s", "90", "in_fact"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),  # decomposed or not
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("Дом, дом!", ["дом"] * 2),
        (
            "दिल्ली में",
            ["दिल्ली", "में"],
        ),
        (
            "می\u200cخواهم",
            ["میخواهم"],
        ),  # a joiner is not seen
        ("東京 Tokyo 2020年", ["東", "京", "tokyo", "2020", "年"]),
        (
            "ที่นี่",
            ["ที่", "นี่"],
        ),  # Thai vowels and tones stay with their consonants
        ("서울에서", ["서울에서"]),
        ("عام ١٩٤٧", ["عام", "١٩٤٧"]),
        ("?! \u200b\u2026", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_terms_are_pairs_where_there_are_no_spaces() -> None:
    assert terms("東京都, 港; Tokyo") == {"東京", "京都", "港", "tokyo"}


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("彼女は東京で生まれた", "東京", True),  # Japanese
        ("她出生在Rome城", "Rome", True),  # Chinese around a Latin name
        (
            "वह दिल्ली में",
            "दिल्ली",
            True,
        ),  # Hindi
        (
            "वह दिल्ली में",
            "दिल",
            False,
        ),  # marks go on
        (
            "Она из РИМА.",
            "Рима",
            True,
        ),  # Russian, in capitals
        ("Римлянин", "Рим", False),
        (
            "ولد في القاهرة،",
            "القاهرة",
            True,
        ),  # Arabic
        ("서울에서", "서울", True),  # Korean with a particle
        (
            "เกิดที่เชียงใหม่",
            "เชียงใหม่",
            True,
        ),  # Thai
        ("Zu\u0308rich", "Zürich", True),
        ("1950年", "1950", True),
        ("1950年", "195", False),
        ("İstanbul'da", "İstanbul", True),
    ],
)
def test_contains(text: str, value: str, expected: bool) -> None:
    assert contains(text, value) == expected


def test_whole_words_are_put_in_the_place_of_others() -> None:
    pattern = whole("Ann", "C++")
    assert pattern.sub("_", "Ann, Anna, C++ and C+++ Ann") == "_, Anna, _ and _+ _"
    assert whole("東京").sub("X", "東京都") == "X都"


def test_marks_at_the_end_are_no_punctuation() -> None:
    assert without_end("दिल्ली।") == "दिल्ली"
    assert without_end("Rome).") == "Rome"


def test_lengths_and_beginnings() -> None:
    assert (length("Who's there?"), length("東京都")) == (2, 3)
    assert beginning("in  Rome and Oslo", "two words") == "in Rome"
    assert beginning("東京、都港", "東京都") == "東京、都"
    assert beginning("東", "東京") == "東"
    assert beginning("", "東京") == ""


def test_names() -> None:
    assert [named(word) for word in ("Ada", "ada", "Ада", "ада", "दीपक", "1984", "")] == [
        *(True, False, True, False, True, False, False)
    ]


def test_pieces_outside_the_latin_script() -> None:
    assert foreign("An élan, 5\u00b5m") == [("An élan, 5\u00b5m", False)]
    assert foreign("in 東京, 2020") == [("in ", False), ("東京", True), (", 2020", False)]
