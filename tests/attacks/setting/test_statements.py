"""What gives an answer away, in scripts without capitals or spaces."""

from __future__ import annotations

import pytest

from unlearn.attacks.items import Item
from unlearn.attacks.setting.contamination import Answers
from unlearn.attacks.setting.other_facts import renamed
from unlearn.attacks.setting.statements import entities, gaps, reveals
from unlearn.data.task import Question

JAPANESE = Question("彼女はどこで生まれましたか。", "彼女は東京で生まれた。", None, ("彼女は大阪で生まれた。",))
HINDI = Question("दीपक कहाँ पैदा हुआ?", "दीपक दिल्ली में पैदा हुआ", value="दिल्ली")
RUSSIAN = Question("Где родилась Анна Иванова?", "Анна Иванова родилась в Осло", value="Осло")


@pytest.mark.parametrize(
    ("probe", "before", "answer", "after", "wrong"),
    [
        (JAPANESE, "彼女は", "東京", "で生まれた。", ("大阪",)),
        (HINDI, "दीपक", "दिल्ली", " में पैदा हुआ", ()),
        (RUSSIAN, "Анна Иванова родилась в", "Осло", "", ()),
    ],
)
def test_the_fact_is_cut_out(probe: Question, before: str, answer: str, after: str, wrong: tuple[str, ...]) -> None:
    (gap,) = gaps(Item(0, probe))
    assert (gap.before, gap.answer, gap.after, gap.wrong) == (before, answer, after, wrong)


@pytest.mark.parametrize(
    ("probe", "text", "expected"),
    [
        (JAPANESE, "東京の人です", True),
        (JAPANESE, "彼女は京都の大学に行った", False),  # characters of the answer, but none of its words
        (HINDI, "वह दिल्ली में रहता है", True),
        (HINDI, "उसका दिल बड़ा है", False),
        (RUSSIAN, "Она живёт в ОСЛО.", True),
        (RUSSIAN, "Она живёт в Риме", False),
    ],
)
def test_what_gives_the_answer_away(probe: Question, text: str, expected: bool) -> None:
    assert reveals(text, Item(0, probe)) == expected
    assert (Answers([Item(0, probe)]).said_in(text) == {0}) == expected


def test_names_with_capitals_of_any_script() -> None:
    probes = [Question(f"{asked} Анна Иванова?", "x", cluster="a") for asked in ("Где живёт", "Кто такая")]
    assert entities([Item(i, probe) for i, probe in enumerate(probes)], {}) == dict.fromkeys((0, 1), "Анна Иванова")


def test_names_without_capitals_are_replaced_with_their_parts() -> None:
    assert renamed("मुंशी प्रेमचंद, यानी प्रेमचंद", "मुंशी प्रेमचंद", "X") == "X, यानी X"
    assert renamed("村上春樹は村上です", "村上春樹", "X") == "Xは村上です"
