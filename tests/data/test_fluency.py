from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from unlearn.data.fluency import MOST, SHORTEST, check_fluency, fluency
from unlearn.data.task import Passage
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

LONG = "A sentence that is told at some length, so that it makes a passage. " * 2


def test_the_package_brings_its_own_passages() -> None:
    passages = [passage.text for passage in fluency(None)]
    assert len(set(passages)) == len(passages) > 50
    assert all(len(text) > 200 and "\n" not in text and text.endswith((".", '"')) for text in passages)


def test_paragraphs_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(f"A heading\n\n{LONG.replace('told', chr(10) + 'told')}\n\n\n{LONG}more\n")
    assert fluency(str(path)) == (Passage(LONG.strip()), Passage(f"{LONG}more"))


def test_the_text_column_of_a_dataset(tmp_path: Path) -> None:
    rows = [{"text": "", "id": 0}, *({"text": f"{LONG}{i}", "id": i} for i in range(MOST + 5))]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fluency(str(tmp_path)) == tuple(Passage(f"{LONG}{i}") for i in range(MOST))


def test_what_is_not_there_or_too_short(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.fluency.*no such file"):
        check_fluency(str(tmp_path / "none.txt"))
    check_fluency("org/corpus")
    (tmp_path / "short.txt").write_text("Too short.\n")
    with pytest.raises(UserError, match=f"at least {SHORTEST} characters"):
        fluency(str(tmp_path / "short.txt"))
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa" * 99)
    with pytest.raises(UserError, match="cannot read"):
        fluency(str(tmp_path / "latin.txt"))
