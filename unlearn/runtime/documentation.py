"""What is said of a component's fields: the docstring under each, where the field is defined."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from functools import cache
from typing import Any

_SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z`\"'])")


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Return the docstring under each field of a dataclass; an inherited field has that of the ancestor defining it.

    Fields without one are left out.
    """
    found: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        if dataclasses.is_dataclass(ancestor):
            found = {name: text for name, text in found.items() if name not in _own_fields(ancestor)}
            found |= _own_docs(ancestor)
    return {field.name: found[field.name] for field in dataclasses.fields(cls) if field.name in found}


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring on one line, without its full stop."""
    return _SENTENCE.split(" ".join(text.split()), maxsplit=1)[0].removesuffix(".")


def in_yaml(text: str) -> str:
    """Return a docstring's first sentence as a comment in YAML.

    It has YAML's words for None, True and False, no backticks, and a small letter first where the first word has no
    other capital.
    """
    words = {"None": "null", "True": "true", "False": "false"}
    text = re.sub(r"\b(None|True|False)\b", lambda word: words[word[0]], first_sentence(text)).replace("`", "")
    first = text.partition(" ")[0]
    return text if first[1:] != first[1:].lower() else text[:1].lower() + text[1:]


def _own_fields(cls: type[Any]) -> frozenset[str]:
    return frozenset(vars(cls).get("__annotations__", {}))


@cache
def _own_docs(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings under the fields that the class itself defines."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):  # made without a source file
        return {}
    (node,) = tree.body
    assert isinstance(node, ast.ClassDef)
    docs = {}
    for one, under in zip(node.body, node.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(under, ast.Expr):
            text = under.value.value if isinstance(under.value, ast.Constant) else None
            if isinstance(text, str):
                docs[one.target.id] = inspect.cleandoc(text)
    return docs
