"""Words in every script: letters with their marks, one case, one way to write them."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import regex

# Written without spaces between words: a character with its marks is a word there.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}\p{Balinese}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|{_LETTER}+", regex.V1)
_RUN = regex.compile(rf"(?:[{_UNSPACED}]\p{{M}}*)+|{_LETTER}+", regex.V1)
_ONE = regex.compile(rf"[{_UNSPACED}]\p{{M}}*", regex.V1)
_JOINED = regex.compile(rf"[{_UNSPACED}\p{{Hangul}}]", regex.V1)
_SEEN = regex.compile(r"[^\s\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]", regex.V1)
_NOT_LATIN = regex.compile(
    r"[[\p{L}--[\p{Latin}\p{Script=Common}]][\p{Nd}--[0-9]]ー][\p{L}\p{M}\p{Nd}--\p{Latin}]*", regex.V1
)


def folded(text: str) -> str:
    """Return the text in composed characters (NFC) and one case, without characters that cannot be seen."""
    composed = unicodedata.normalize("NFC", regex.sub(r"\p{Cf}+", "", text))
    return unicodedata.normalize("NFC", composed.casefold())


def words(text: str) -> list[str]:
    """Return the words of a text, folded; of scripts without spaces, the characters."""
    found: list[str] = _WORD.findall(folded(text))
    return found


def terms(text: str) -> set[str]:
    """Return what texts can have in common: words; of scripts without spaces, pairs of characters that follow."""
    found: set[str] = set()
    for run in _RUN.findall(folded(text)):
        characters = _ONE.findall(run)
        pairs = [first + second for first, second in pairwise(characters)]
        found.update(pairs or [run])
    return found


def whole(*texts: str, flags: int = 0) -> Any:
    """Return the pattern of any of these texts where they stand as whole words.

    In scripts without spaces a word may begin and end anywhere; Korean puts particles at its end.
    """
    return regex.compile("|".join(_whole(text) for text in texts), regex.V1 | flags)


def _whole(text: str) -> str:
    before = "" if _ONE.match(text[:1]) else rf"(?<!{_LETTER})"
    after = r"(?!\p{M})" if _JOINED.match(_base(text)) else rf"(?!{_LETTER})"
    return f"{before}{regex.escape(text, literal_spaces=True)}{after}"


def _base(text: str) -> str:
    """Return the text's last character that is no mark."""
    return next((char for char in reversed(text) if not unicodedata.category(char).startswith("M")), "")


def contains(text: str, value: str) -> bool:
    """Return whether `value` appears in `text` as whole words, whatever the case."""
    return whole(folded(value)).search(folded(text)) is not None


def blank(text: str) -> bool:
    """Return whether nothing of the text can be seen: white space, joiners, fillers."""
    return _SEEN.search(text) is None


def spaced(text: str) -> bool:
    """Return whether the text is in scripts that have spaces between words."""
    return _ONE.search(text) is None


def length(text: str) -> int:
    """Return how many words a text has, as its spaces have it; characters where its script has no spaces."""
    return len(text.split()) if spaced(text) else len(words(text))


def without_end(text: str) -> str:
    """Return the text without the punctuation at its end."""
    return str(regex.sub(r"[^\p{L}\p{M}\p{N}_]+$", "", text))


def beginning(text: str, like: str) -> str:
    """Return the text's first words, as many as another text has; characters, where that has no spaces between."""
    if spaced(like):
        return " ".join(text.split()[: len(like.split())])
    places = [match.end() for match in _WORD.finditer(text)]
    count = length(like)
    return text[: places[count - 1]] if 0 < count <= len(places) else text


def named(word: str) -> bool:
    """Return whether a word may be a name: it begins with a capital, or its script has none."""
    return word[:1].isupper() or (word[:1].isalpha() and word[:1].lower() == word[:1].upper())


def foreign(text: str) -> list[tuple[str, bool]]:
    """Return the text in pieces, in order, each with whether it is of letters or digits outside the Latin script."""
    pieces, end = [], 0
    for match in _NOT_LATIN.finditer(text):
        pieces += [(text[end : match.start()], False), (match[0], True)]
        end = match.end()
    return [(piece, other) for piece, other in [*pieces, (text[end:], False)] if piece]
