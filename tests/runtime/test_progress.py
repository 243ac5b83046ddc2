"""What long work shows on stderr."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

import pytest

from unlearn.runtime import progress as module
from unlearn.runtime.progress import notify, progress, silence

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    yield
    silence(False)


def test_one_line_a_stage_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("all [stages]", total=2) as outer:
        with progress("training", total=3) as advance:
            for loss in (3.0, 2.0, 1.23456):
                advance(1, loss=loss)
        outer(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    inner, whole = captured.err.splitlines()
    assert re.fullmatch(r"training \(3\): \d+\.\d s, loss 1\.235", inner)
    assert re.fullmatch(r"all \[stages\] \(1 of 2\): \d+\.\d s", whole)


def test_without_a_known_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("scoring") as advance:
        advance(5)
        advance()
    with progress("waiting"):
        pass
    assert re.fullmatch(r"scoring \(6\): \d+\.\d s\nwaiting: \d+\.\d s\n", capsys.readouterr().err)


def test_work_that_fails_does_not_look_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="of the work"), progress("training", total=3):
        raise ValueError("of the work")
    assert "training" not in capsys.readouterr().err


def test_other_processes_and_silence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> str:
        with progress("training", total=1) as advance:
            advance(1, loss=1.0)
        notify("a word")
        return capsys.readouterr().err

    silence()
    assert work() == ""
    silence(False)
    assert "training" in work()
    monkeypatch.setenv("RANK", "1")
    assert work() == ""


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("outer", total=1) as outer:
        with progress("inner", total=2) as advance:
            advance(2, loss=0.5)
            assert module._bars is not None
            assert [(task.description, task.completed) for task in module._bars.tasks] == [("outer", 0), ("inner", 2)]
            notify("a word beside the bars")
        assert [task.description for task in module._bars.tasks] == ["outer"]
        outer(1)
    assert module._bars is None
    lines = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\r", "", terminal.getvalue())
    assert "a word beside the bars\n" in lines
    assert "━" in lines
    assert re.search(r"inner \(2\): \d+\.\d s, loss 0.5\n", lines)
    assert re.search(r"outer \(1\): \d+\.\d s\n", lines)


def test_bars_go_when_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError, match="of the work"), progress("outer"), progress("inner"):
        raise ValueError("of the work")
    assert module._bars is None
