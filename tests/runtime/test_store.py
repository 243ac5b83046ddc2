from __future__ import annotations

import errno
import json
import multiprocessing
import time
from typing import TYPE_CHECKING

import pytest

from unlearn.runtime.errors import UserError
from unlearn.runtime.read import read_json
from unlearn.runtime.store import Store, disk_errors, write_file, write_json

if TYPE_CHECKING:
    from pathlib import Path


def make(text: str):
    return lambda folder: (folder / "file").write_text(text)


def store(root: Path, said: list[str] | None = None, hashed: bool = True) -> Store:
    return Store(root, hashed, (said if said is not None else []).append)


def test_a_stage_is_built_once_per_key(tmp_path: Path) -> None:
    first = store(tmp_path).stage("s", {"a": 1}, make("one"))
    again = store(tmp_path).stage("s", {"a": 1}, make("two"))
    other = store(tmp_path).stage("s", {"a": 2}, make("three"))
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert (again.folder / "file").read_text() == "one"
    assert other.folder != first.folder
    assert (other.folder / "file").read_text() == "three"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no manifest"])
def test_a_damaged_stage_is_built_again_saying_so(tmp_path: Path, damage: str) -> None:
    folder = store(tmp_path).stage("s", {}, make("content")).folder
    if damage == "flip":
        (folder / "file").write_text("c0ntent")
    elif damage == "cut":
        (folder / "file").write_text("cont")
    elif damage == "remove":
        (folder / "file").unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        (folder / "manifest.json").unlink()
    said: list[str] = []
    built = store(tmp_path, said).stage("s", {}, make("content"))
    assert not built.cached
    assert (folder / "file").read_text() == "content"
    assert "damaged" in said[0]
    assert str(folder) in said[0]


def test_a_failed_build_leaves_no_stage_but_its_partial_work(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        store(tmp_path).stage("s", {}, fail)
    assert not store(tmp_path).folder("s", {}).exists()

    seen: list[bool] = []
    store(tmp_path).stage("s", {}, lambda folder: seen.append((folder / "half").exists()))
    assert seen == [True]


def test_a_run_folder_refuses_other_inputs(tmp_path: Path) -> None:
    store(tmp_path, hashed=False).stage("unlearned", {"lr": 1}, make("x"))
    with pytest.raises(UserError, match="other inputs"):
        store(tmp_path, hashed=False).stage("unlearned", {"lr": 2}, make("x"))


def _slow(root: Path, log: Path) -> None:
    def build(folder: Path) -> None:
        with open(log, "a") as file:
            file.write("built\n")
        time.sleep(0.5)

    Store(root, True, lambda line: None).stage("s", {}, build)


def test_concurrent_runs_build_a_stage_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_slow, args=(tmp_path / "cache", log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "value.json"
    write_json(path, {"x": 1})

    def half(temporary: Path) -> None:
        temporary.write_text('{"x":')
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_file(path, half)
    assert json.loads(path.read_text()) == {"x": 1}
    assert [p.name for p in path.parent.iterdir()] == ["value.json"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error (os error 28)")]
)
def test_a_full_disk_is_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="no space is left"), disk_errors(tmp_path):
        raise error


def test_a_flipped_byte_in_a_large_file_is_found(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        with (folder / "weights").open("wb") as file:
            file.truncate(65 * 2**20)

    folder = store(tmp_path).stage("s", {}, build).folder
    with (folder / "weights").open("rb+") as file:
        file.seek(33 * 2**20)
        file.write(b"x")
    said: list[str] = []
    assert not store(tmp_path, said).stage("s", {}, build).cached
    assert "damaged (weights)" in said[0]


def test_unreadable_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="there is no file"):
        read_json(tmp_path / "y.json")
