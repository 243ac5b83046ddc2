"""Whether a text says the answer to an item: who trains on it then learns the answer, and recovers nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.attacks.setting.statements import gaps
from unlearn.attacks.setting.text import content_words, normalised
from unlearn.data.words import terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unlearn.attacks.items import Item

SHARE = 2 / 3  # of the content words of an answer: so many in one text say it in other words


@dataclass(frozen=True)
class _Form:
    """A way to say an answer."""

    phrase: str
    """Its words in a row, with a space on either side of each."""
    content_words: frozenset[str]
    """Words of a longer answer, of which enough say it, too."""

    def said_in(self, padded: str, words: set[str]) -> bool:
        """Return whether a text says it. padded: the text's words with a space on either side of each."""
        if self.phrase in padded:
            return True
        return len(self.content_words) > 1 and len(self.content_words & words) >= SHARE * len(self.content_words)


class Answers:
    """The answers of some items, to be looked for in texts.

    A text says an answer if it has the bare value (where the dataset knows none: the answer, or what sets it apart from
    the wrong answers) as whole words in a row, or, where there is no bare value, two thirds of at least two content
    words that it adds to its question.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._forms = [(item.index, form) for item in items for form in _forms(item)]

    def said_in(self, text: str) -> set[int]:
        """Return the indices of the items whose answers the text says."""
        said = normalised(text)
        padded, found = f" {said} ", terms(text)
        return {index for index, form in self._forms if form.said_in(padded, found)}


def _forms(item: Item) -> Sequence[_Form]:
    probe, found = item.probe, []
    for answer in dict.fromkeys([item.short_answer, *(gap.answer for gap in gaps(item))]):
        added = content_words(answer, probe.question)
        if normalised(answer) and (added or answer == item.short_answer):
            found.append(_Form(f" {normalised(answer)} ", frozenset(() if probe.value else added)))
    return found
