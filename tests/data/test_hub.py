from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearn.data.hub import read_lines, read_rows
from unlearn.runtime.errors import UserError


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


def written(path: Path, name: str, text: str) -> str:
    (path / "README.md").write_text(f"---\nconfigs:\n- config_name: a\n  data_files: {name}\n---\n")
    (path / name).write_text(text, encoding="utf-8")
    return str(path)


DATES = ["2001-02-03", "2001-02-03T04:05:06Z", "2001-02-03 04:05:06"]


def test_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"answer": date, "list": [date]}) + "\n" for date in DATES)
    rows = read_rows(written(tmp_path, "a.jsonl", lines), "a", {"answer": str, "list": list})
    assert [row["answer"] for row in rows] == DATES
    assert [row["list"] for row in rows] == [[date] for date in DATES]
    whole = json.dumps([{"answer": date} for date in DATES])
    assert [row["answer"] for row in read_rows(written(tmp_path, "a.json", whole), "a", {"answer": str})] == DATES


def test_text_that_looks_like_a_number_or_nothing_stays_text(tmp_path: Path) -> None:
    texts = ["1984", "007", "NA", "None", "2001-02-03", "true"]
    table = written(tmp_path, "a.csv", "\n".join(["answer,more", *(f"{text},1" for text in texts)]))
    assert [row["answer"] for row in read_rows(table, "a", {"answer": str})] == texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"answer": "x"}\nnull\n', r"line 2 is 'None', not a JSON object"),
        ('{"answer": "x"}\n{"answer": \n', "line 2 is no JSON"),
        ('{"answer": 3}\n', "row 0: 'answer' is '3', not text"),
        ('{"answer": "\\u200b\\u2060 \\ufeff"}\n', "row 0: 'answer' is empty"),
        ('{"other": "x"}\n', "no column 'answer'"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_rows(written(tmp_path, "a.jsonl", text), "a", {"answer": str})


def test_lines_of_what_cannot_be_seen_are_none(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\u200b\n\u3164 \u2800\ntwo\n", encoding="utf-8")
    assert read_lines(str(tmp_path / "lines.txt")) == ["one", "two"]
