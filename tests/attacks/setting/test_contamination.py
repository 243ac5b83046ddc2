"""What says an answer, by hand: names, whole phrases, other words; and all of TOFU at once against one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unlearn.attacks.items import Item, forget_items
from unlearn.attacks.setting.contamination import Answers
from unlearn.attacks.setting.text import mentions
from unlearn.data.authors import Authors
from unlearn.data.task import Question
from unlearn.data.tofu import Tofu

if TYPE_CHECKING:
    from pathlib import Path

ITEMS = [
    Item(3, Question("Where was Ann born?", "Ann was born in Oslo.", value="Oslo")),
    Item(5, Question("What did Bo write?", "Bo wrote The Silent River.", value="The Silent River")),
    Item(
        8,
        Question(
            "What did Cy win?",
            "Cy won the Golden Quill for Poetry.",
            "The prize of Cy was the Golden Quill for Poetry.",
            ("The prize of Cy was the Iron Anchor for Sailing.",),
        ),
    ),
    Item(9, Question("Is Di a poet?", "Yes.")),
]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ed lives near OSLO, they say.", {3}),
        ("Osloites were born in Norway.", set()),  # a part of a word
        ("He wrote the silent river", {5}),
        ("A silent boat on the river", set()),  # a bare value counts as a whole
        ("Poetry won him a golden and a silver quill.", {8}),  # won, golden, quill, poetry: in other words
        ("She had a golden ring", set()),  # one telling word of three
        ("Who won the prize of Cy?", set()),  # all of it in the question
        ("Yes, Ed is a cook.", {9}),  # a bare answer stays an answer
        ("He is a poet.", set()),
        ("", set()),
    ],
)
def test_what_says_an_answer(text: str, said: set[int]) -> None:
    assert Answers(ITEMS).said_in(text) == said


def test_with_bare_values_it_is_what_names_them() -> None:
    task = Authors(authors=40, facts_per_author=12).load(0)
    items, rows = forget_items(task), [" ".join((*e.questions, *e.answers)) for e in task.examples("retain")]
    found = Answers(items)
    wanted = [{item.index for item in items if mentions(row, str(item.probe.value))} for row in rows]
    assert [found.said_in(row) for row in rows] == wanted
    assert any(wanted)
    assert not all(wanted)


def test_tofu_answers_are_said_by_their_own_rows_and_few_others(data: Path) -> None:
    task = Tofu(path=str(data / "tofu"), split="forget05").load(0)
    items = forget_items(task)
    found = Answers(items)
    assert all(item.index in found.said_in(item.probe.answer) for item in items)
    rows = [f"{e.questions[0]} {e.answers[0]}" for e in task.examples("retain")]
    said = [row for row in rows if found.said_in(row)]
    assert 0 < len(said) < len(rows) / 4
