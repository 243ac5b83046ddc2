"""Common words and what templates put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNONYMS: Mapping[str, str] = {
    "author": "writer",
    "award": "prize",
    "birthplace": "place of birth",
    "book": "literary work",
    "books": "literary works",
    "born": "brought into the world",
    "capital": "seat of government",
    "city": "town",
    "created": "made",
    "famous": "celebrated",
    "father": "dad",
    "favourite": "preferred",
    "genre": "literary category",
    "job": "occupation",
    "language": "tongue",
    "located": "situated",
    "mother": "mum",
    "native": "local",
    "novel": "work of fiction",
    "plays": "practises",
    "profession": "line of work",
    "sport": "athletic discipline",
    "themes": "subjects",
    "university": "place of higher education",
    "writer": "author",
    "year": "calendar year",
}
"""Another word for each."""

_TRANSLATED = """
    a|un|ein|un
    and|et|und|y
    at|à|an|en
    author|auteur|Autor|autor
    award|prix|Preis|premio
    book|livre|Buch|libro
    books|livres|Bücher|libros
    born|né|geboren|nacido
    by|par|von|por
    city|ville|Stadt|ciudad
    famous|célèbre|berühmt|famoso
    father|père|Vater|padre
    for|pour|für|para
    from|de|aus|de
    genre|genre|Genre|género
    how|comment|wie|cómo
    in|dans|in|en
    is|est|ist|es
    language|langue|Sprache|idioma
    mother|mère|Mutter|madre
    name|nom|Name|nombre
    of|de|von|de
    on|sur|auf|en
    the|le|das|el
    to|à|zu|a
    university|université|Universität|universidad
    was|était|wurde|fue
    what|que|was|qué
    when|quand|wann|cuándo
    where|où|wo|dónde
    which|quel|welche|cuál
    who|qui|wer|quién
    with|avec|mit|con
    year|année|Jahr|año
"""
_ROWS = [line.strip().split("|") for line in _TRANSLATED.strip().splitlines()]
GLOSSARY: Mapping[str, Mapping[str, str]] = {
    language: {row[0]: row[column] for row in _ROWS}
    for column, language in enumerate(("french", "german", "spanish"), 1)
}
"""By language, the translations of English words."""
