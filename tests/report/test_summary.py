"""What is printed at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.report.folder import read_run
from unlearn.report.summary import print_summary

if TYPE_CHECKING:
    import pytest

MakeRun = Callable[..., Path]


def _printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    print_summary(folder)
    lines = capsys.readouterr().out.splitlines()
    return {line.strip().partition("  ")[0]: line for line in lines}


def test_numbers_by_model(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    lines = _printed(folder, capsys)
    shown = "Probability 0.930 [0.890, 0.970] 0.210 [0.170, 0.250] 0.150 [0.110, 0.190] 40"
    assert lines["Probability"].split() == shown.split()
    assert "over-unlearned" in lines["MIA: Min-K"]
    assert [group for group in ("Forgetting", "Utility", "Memorisation", "Membership") if group in lines] == [
        "Forgetting", "Utility", "Memorisation", "Membership",
    ]  # fmt: skip
    assert f"report: {folder / 'report.html'}" in lines  # on one line, however long


def test_without_control_model(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(make_run(has_control=False), capsys)
    assert "Forget quality (p)" not in lines
    assert "undefined: Forget quality (p), KS distance (there is no control model)" in lines


def test_nothing_of_the_data_is_printed(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(texts={("forget", 0): "a secret"})
    lines = "\n".join(_printed(folder, capsys).values())
    for model in ("original", "unlearned", "control"):
        for column in ("question", "answer", "generation"):
            assert not any(text in lines for text in read_run(folder).generations(model)[column])


def test_who_localized(make_run: MakeRun, localize: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    assert not any("Localized by" in line for line in _printed(folder, capsys))
    localize(folder, {"model.layers.0.mlp.up_proj.weight": [0, 1, 2]})
    assert "Localized by wagle: 15.0% of 20 weights may change" in _printed(folder, capsys)


def test_leaks(make_run: MakeRun, attack: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    attack(folder)
    print_summary(folder)
    lines = capsys.readouterr().out.splitlines()
    order = (
        "Membership",
        "Leaks",
        "relearn ",
        "worst case of all",
        "inconclusive (0 of 3 attacks could have seen",
        "scope:",
        "14.8 s in",
    )
    places = [next(i for i, line in enumerate(lines) if line.strip().startswith(start)) for start in order]
    assert places == sorted(places)
    assert not any("answer 0" in line or "question 0" in line for line in lines)
