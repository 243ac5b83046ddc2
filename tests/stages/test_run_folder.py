from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from unlearn.runtime.errors import UserError
from unlearn.stages.run_folder import claimed

if TYPE_CHECKING:
    from pathlib import Path


def hold(folder: Path, ready: multiprocessing.Event, go: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    with claimed(folder, {"seed": 0}):
        ready.set()  # type: ignore[attr-defined]
        go.wait()  # type: ignore[attr-defined]


def test_another_run_is_refused_before_anything_of_the_first_is_made(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready, go))
    process.start()
    try:
        assert ready.wait(30)
        with (
            pytest.raises(UserError, match=r"another configuration \(seed: 0 there, 1 here\)"),
            claimed(tmp_path / "run", {"seed": 1}),
        ):
            pass
    finally:
        go.set()
        process.join(30)
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"
    with claimed(tmp_path / "run", {"seed": 1}):  # nothing was made there yet, and nobody is at it
        assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 1\n"
