from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.data.hub import read_rows

if TYPE_CHECKING:
    import pytest


def folder(path: Path, answer: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n---\n")
    (path / "a.jsonl").write_text(json.dumps({"answer": answer}) + "\n")
    return path


def test_a_changed_folder_and_one_of_the_same_name_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The datasets library by itself gives the rows of the first one for all three."""

    def answers(path: Path) -> list[str]:
        return [row["answer"] for row in read_rows(str(path), "a", {"answer": str})]

    assert answers(folder(tmp_path / "same", "one")) == ["one"]
    assert answers(folder(tmp_path / "same", "two")) == ["two"]
    assert answers(folder(tmp_path / "other" / "same", "three")) == ["three"]
    monkeypatch.chdir(tmp_path / "other")
    assert answers(Path("same")) == ["three"]
