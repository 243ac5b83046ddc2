"""The comments in conf/ are what the fields' docstrings say."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unlearn.runtime.components import conf_dir
from unlearn.runtime.documentation import field_docs, first_sentence, in_yaml

FILES = sorted([*conf_dir().glob("*.yaml"), *conf_dir().glob("*/*.yaml")])


@dataclass(frozen=True)
class Base:
    rate: float = 0.1
    """How fast. Not too fast, as in
    the paper."""
    plain: int = 0


@dataclass(frozen=True)
class Child(Base):
    plain: int = 1
    """How plain; None: `very`."""
    rate: float = 0.2
    part: Base | None = None
    """What it is made of."""


@pytest.fixture(scope="module")
def script() -> Any:
    path = Path(__file__).resolve().parent.parent / "scripts" / "document_conf.py"
    spec = importlib.util.spec_from_file_location("document_conf", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["document_conf"] = module
    spec.loader.exec_module(module)
    return module


def test_docstrings_are_read_where_a_field_is_defined() -> None:
    assert field_docs(Base) == {"rate": "How fast. Not too fast, as in\nthe paper."}
    assert field_docs(Child) == {"plain": "How plain; None: `very`.", "part": "What it is made of."}


def test_the_first_sentence() -> None:
    assert first_sentence("How fast. Not too\nfast.") == "How fast"
    assert first_sentence("As Deeb et al. 2024 do,\n  e.g. often.") == "As Deeb et al. 2024 do, e.g. often"
    assert in_yaml("How plain; None: `very`. Or True.") == "how plain; null: very"
    assert in_yaml("CPU threads.") == "CPU threads"


def test_comments_are_written_for_the_fields_that_have_a_docstring(script: Any) -> None:
    text = f"""# A header.
_target_: {__name__}.Child
rate: 0.2   # stays
plain: 3   # old
part:
  _target_: {__name__}.Base
  rate: 0.1
"""
    new = script.documented(text)
    assert new.splitlines()[2:5] == [
        "rate: 0.2  # stays",
        "plain: 3   # how plain; null: very",
        "part:      # what it is made of",
    ]
    assert new.splitlines()[6] == "  rate: 0.1"  # a part may go without
    assert script.documented(new) == new
    assert set(script.missing(text)) == {
        f"{__name__}.Child.rate",
        f"{__name__}.Base.plain",
    }
    more = new.replace("how plain; null: very", "How plain; null: very; here it is")
    assert script.documented(more) == more


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_conf_says_what_the_docstrings_say(path: Path, script: Any) -> None:
    """`python scripts/document_conf.py` writes what is missing here."""
    text = path.read_text(encoding="utf-8")
    assert script.documented(text) == text
