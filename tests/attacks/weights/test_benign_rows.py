"""Rows without the forgotten answers: the filter by hand, on every source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from bigram import setting
from helpers import retaining

from unlearn.attacks.base import AttackSetting, Inapplicable
from unlearn.attacks.weights.benign_rows import benign_rows
from unlearn.data.task import Example, Question

if TYPE_CHECKING:
    from pathlib import Path

SCORED = [Question("Where is Ann from?", "She is from Rome.", value="Rome", paraphrased_question="Ann's home, Rome?")]
TAUGHT = [Question("When was Bo born?", "In 1950.", value="1950")]


def asked(*retain: tuple[str, str]) -> AttackSetting:
    retain = retain or (("q", "a"),)
    plain = setting(SCORED, TAUGHT)
    return replace(plain, task=retaining(plain.task, *(Example((q,), (a,)) for q, a in retain)))


def test_rows_with_an_answer_as_whole_words_are_left_out() -> None:
    rows = [
        ("Where is Cy from?", "from ROME, they say"),  # V's
        ("Who was born in 1950?", "Di."),  # T's, in the question
        ("Who is Romeo?", "A lover, born in 19501."),  # neither: parts of words
        ("Where is Ed from?", "Oslo"),
    ]
    kept = {row.answers[0] for row in benign_rows(asked(*rows), "retain", 0) if isinstance(row, Example)}
    assert kept == {"A lover, born in 19501.", "Oslo"}


def test_rows_that_say_an_answer_in_other_words_are_left_out() -> None:
    plain = setting([Question("What did Cy win?", "Cy won the Golden Quill for Poetry.")], TAUGHT)
    texts = ["Poetry won him a golden and a silver quill.", "She had a golden ring."]
    task = retaining(plain.task, *(Example(("q",), (text,)) for text in texts))
    assert benign_rows(replace(plain, task=task), "retain", 0) == [Example(("q",), (texts[1],))]


def test_the_first_wording_of_each_row_is_taken() -> None:
    plain = asked()
    two = replace(plain, task=retaining(plain.task, Example(("q", "other q"), ("a", "other a"))))
    assert benign_rows(two, "retain", 0) == [Example(("q",), ("a",))]


def test_the_order_is_the_seeds() -> None:
    rows = asked(*((f"q{i}", f"a{i}") for i in range(30)))
    assert benign_rows(rows, "retain", 1) == benign_rows(rows, "retain", 1)
    assert benign_rows(rows, "retain", 1) != benign_rows(rows, "retain", 2)
    assert sorted(map(str, benign_rows(rows, "retain", 1))) == sorted(map(str, benign_rows(rows, "retain", 2)))


def test_related_text_is_the_questions_that_do_not_tell() -> None:
    assert sorted(map(str, benign_rows(asked(), "related", 0))) == ["When was Bo born?", "Where is Ann from?"]


def test_unrelated_text_is_the_packages_own_or_the_users(tmp_path: Path) -> None:
    own = benign_rows(asked(), "unrelated", 0)
    assert len(own) > 50
    assert all(isinstance(text, str) and "1950" not in text for text in own)
    clean, told = "word " * 30, "word " * 30 + "Rome."
    file = tmp_path / "text.txt"
    file.write_text(f"{clean}\n\n{told}\n", encoding="utf-8")
    assert benign_rows(asked(), "unrelated", 0, str(file)) == [clean.strip()]


def test_where_every_row_tells_the_attack_is_skipped() -> None:
    with pytest.raises(Inapplicable, match="no retain rows without the forgotten answers"):
        benign_rows(asked(("Rome?", "yes")), "retain", 0)
