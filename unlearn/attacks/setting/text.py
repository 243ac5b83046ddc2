"""What texts have in common, for filters that keep an answer out of its own question."""

from __future__ import annotations

import re

from unlearn.data.words import terms, words

_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by called can could did do does for from had has have he her his how i in into is "
        "it its me my no not of on one or s she so than that the their them there they this to was we were what when "
        "where which who whom whose why will with would yes you your",
    )
)


def normalised(text: str) -> str:
    """Return the words alone, in small letters, joined by single spaces; characters where a script has no spaces."""
    return " ".join(words(text))


def mentions(text: str, answer: str) -> bool:
    """Return whether the words of `answer` stand in `text` in a row, whatever the case and punctuation."""
    return f" {normalised(answer)} " in f" {normalised(text)} "


def content_words(text: str, besides: str = "") -> set[str]:
    """Return the words of a text that carry its meaning, without those of another text: see `terms`."""
    return terms(text) - terms(besides) - _SMALL
