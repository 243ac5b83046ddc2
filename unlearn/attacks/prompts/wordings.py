"""Templates in other words: paraphrases, synonyms, languages, a letter for a name."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn.attacks.items import Item
from unlearn.attacks.prompts.frames import LANGUAGES, PARAPHRASES
from unlearn.attacks.prompts.word_tables import GLOSSARY, SYNONYMS
from unlearn.attacks.setting.statements import PARAGRAPH, PromptContext, is_completion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Question


def paraphrase(item: Item, context: PromptContext, n: int) -> Question | None:
    """Return the n-th other wording: the dataset's, then those that were trained on, then framed ones."""
    probe = item.probe
    wordings = [probe.paraphrased_question, *(context.wordings or {}).get(probe.question, ())]
    others = [text for text in dict.fromkeys(wordings) if text and text != probe.question]
    if n < len(others):
        return replace(probe, question=others[n])
    return PARAPHRASES[n - len(others)](item, context) if n - len(others) < len(PARAPHRASES) else None


def synonym_manipulation(item: Item, context: PromptContext) -> Question | None:
    """Name the entity by initials and last word, put synonyms for common words; None where nothing changes."""
    question = item.probe.question
    entity = context.entities.get(item.index, "")
    text = _in_words(question, SYNONYMS, keep=entity)
    if len(words := entity.split()) > 1:
        alias = " ".join([*(f"{word[0].upper()}." for word in words[:-1]), words[-1]])
        text = text.replace(entity, alias)
    return None if text == question else replace(item.probe, question=text)


def _in_words(text: str, words: Mapping[str, str], keep: str = "") -> str:
    """Return the text word by word as in `words`, with a capital where there was one; but for `keep`."""

    def other(match: re.Match[str]) -> str:
        new = words.get(match[0].lower(), match[0])
        return new[:1].upper() + new[1:] if match[0][0].isupper() else new

    pieces = text.split(keep) if keep else [text]
    return keep.join(re.sub(r"[^\W\d_]+", other, piece) for piece in pieces)


def variables(item: Item, context: PromptContext) -> Question | None:
    """Put a letter for the entity."""
    entity = context.entities.get(item.index)
    if entity is None:
        return None
    gap = PARAGRAPH if is_completion(item.probe) else " "
    text = f"Let P stand for {entity}.{gap}{item.probe.question.replace(entity, 'P')}"
    return replace(item.probe, question=text)


def cross_lingual(item: Item, context: PromptContext, language: str) -> Question | None:
    """Ask in another language, common words translated one by one, for an answer in English.

    A sentence to be completed stays in English.
    """
    asked = item.probe.question
    if not is_completion(item.probe):
        asked = _in_words(asked, GLOSSARY[language], keep=context.entities.get(item.index, ""))
    return LANGUAGES[language](Item(item.index, replace(item.probe, question=asked)), context)
