"""Rows that no task may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unlearn.data.checks import check_overlap
from unlearn.data.task import Example, Passage, ProbeSet, Question, Request, Row, Task
from unlearn.runtime.errors import UserError

INVISIBLE = ["\u200b", "\u2060\ufeff", "\u00ad", "\u3164", "\u2800", "\u200e \u3000", "\ufe0f", "\x00"]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
def test_what_cannot_be_seen_is_empty(text: str) -> None:
    with pytest.raises(UserError, match="forget row 0 has an empty question or answer"):
        task((Example(("Where?",), (text,)),))
    with pytest.raises(UserError, match="forget row 0 has no text"):
        task((Passage(text),))
    with pytest.raises(UserError, match="probe row 0 of 'asked' has an empty question or answer"):
        replace(task((Passage("x"),)), probes=(ProbeSet("asked", "forget", (Question("Where?", text),)),))


def test_what_can_be_seen_is_not() -> None:
    """A joiner inside, an emoji with its variation, a private letter, one that is newer than the table of letters."""
    for text in ("\u0645\u06cc\u200c\u062e", "\u2764\ufe0f", "\ue000", "\U0001fae9", ".", "\u0301"):
        task((Example(("Where?",), (text,)),))


def task(forget: tuple[Row, ...], retain: tuple[Row, ...] = (Example(("Who?",), ("Ada",)),), **more: object) -> Task:
    return Task("towns", "all", {"forget": forget, "retain": retain}, **more)  # type: ignore[arg-type]


ROME = Example(("Where is Zo\u00eb?",), ("In Rome.",))


@pytest.mark.parametrize(
    ("forget", "retain"),
    [
        (ROME, ROME),
        (ROME, Example(("Where  is\u00a0Zoe\u0308? ",), ("In\nRome.",))),  # spaces, and a letter in two characters
        (ROME, Example(("Who?", "Where is Zo\u00eb?"), ("x", "In Rome."))),  # one wording of several
        (Passage("A  b."), Passage("A b.")),
    ],
)
def test_rows_to_forget_and_to_retain_are_refused(forget: Row, retain: Row) -> None:
    kept = (Example(("Who?",), ("Ada",)), retain) if isinstance(retain, Example) else (Passage("x"), retain)
    with pytest.raises(UserError, match=r"forget row 0 is also retain row 1: .* insist with overlap=allow"):
        check_overlap(task((forget,), kept))


def test_rows_alike_are_no_overlap() -> None:
    """Another answer, another case, the same answer to another question."""
    others = (Example(ROME.questions, ("In Oslo.",)), Example(("Where is zo\u00eb?",), ROME.answers))
    check_overlap(task((ROME,), (*others, Example(("Where was she?",), ROME.answers))))
    check_overlap(Task("towns", "all", {"forget": (ROME,), "retain": others}))


def test_requests_are_checked_too() -> None:
    asked = task((Example(("When?",), ("1901",)),), (ROME,), requests=(Request({"forget": (ROME,)}),))
    with pytest.raises(UserError, match="request 1: forget row 0 is also retain row 0"):
        check_overlap(asked)
