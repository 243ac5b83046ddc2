from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from unlearn.runtime.errors import UserError
from unlearn.runtime.read import read_json, read_objects, read_yaml

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Named:
    name: str
    size: int = 0


def file(folder: Path, content: bytes) -> Path:
    (folder / "x").write_bytes(content)
    return folder / "x"


def test_json_as_a_type(tmp_path: Path) -> None:
    assert read_json(file(tmp_path, b'\xef\xbb\xbf{"name": "a", "other": 1}'), Named) == Named("a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot read .*x "),
        (b"[" * 100_000, "cannot read .*x .*recursion"),
        (b"[]", "x is damaged"),
        (b"null", "x is damaged"),
        (b'{"size": 1}', "x is damaged: name: "),
        (b'{"name": "a", "size": "big"}', "x is damaged: size: "),
        (b'{"name": "\xe9"}', "x, line 1 is not UTF-8 .byte 0xe9"),
    ],
)
def test_damaged_json(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_json(file(tmp_path, content), Named)


@pytest.mark.parametrize("content", [b"", b" \n", b"a: [", b"- a", b"3", b"{}", b"a: ${b}", b"\xff", b"a: [" * 999])
def test_damaged_yaml(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="x"):
        read_yaml(file(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": "1"}\n\nnull\n', "x, line 3 is 'None', not a JSON object"),
        (b'{"a": "1"}\n[1]\n', r"x, line 2 is '\[1\]', not a JSON object"),
        (b'{"a": "1"}\n{"a": "caf\xe9"}\n', "x, line 2 is not UTF-8"),
        (b'{"a": "1"}\n{"a": "2"\n', "x, line 2 is no JSON"),
        (b'{"a": "1"}\n{"b": "2"}\n', "x, line 2 has no 'a'"),
        (b'{"a": "1"} {"a": "2"}\n', "x, line 1 is no JSON"),
        (b'[{"a": "1"}, {}]', "x, entry 1 has no 'a'"),
        (b'{"a": ' + b"[" * 100_000, "x, line 1 is no JSON"),
    ],
)
def test_lines_that_are_no_objects(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_objects(file(tmp_path, content), ["a"])


def test_a_separator_within_a_text_ends_no_line(tmp_path: Path) -> None:
    content = '{"a": "one\u2028two\u0085three"}\r\n{"a": "4"}'.encode()
    assert read_objects(file(tmp_path, content), ["a"]) == [{"a": "one\u2028two\u0085three"}, {"a": "4"}]
