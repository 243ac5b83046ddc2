"""Files that appear whole or not at all: atomic writes, and stages whose results are kept by content.

A stage is built in a folder `NAME.partial` and renamed to `NAME` when its manifest is written, so a folder with that
name is complete. What a killed build left in its partial folder (a training checkpoint) is there for the next try.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from unlearn.runtime import distributed
from unlearn.runtime.errors import UserError
from unlearn.runtime.read import read_json
from unlearn.runtime.resources import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MANIFEST = "manifest.json"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or an unwritable folder into the one-line error (safetensors tells them only in its message)."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        text = str(error)
        if code in _NO_SPACE or any(f"os error {number})" in text for number in _NO_SPACE):
            raise UserError(
                f"no space is left to write in {folder}: free some, or choose another output= or cache="
            ) from error
        if code in _NO_ACCESS and isinstance(error, OSError):
            raise UserError(f"cannot write in {folder}: {error.strerror} ({error.filename})") from error
        raise


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, flush it to disk, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class Manifest:
    """What a finished stage says of itself."""

    key: str
    """Hash of what it was made from."""
    inputs: dict[str, Any]
    """What it was made from."""
    files: dict[str, str]
    """Size and content of each of its files."""
    seconds: float
    """Wall time of the build."""
    peak_rss_mb: float
    """Peak resident memory of the build."""


def read_manifest(folder: Path) -> Manifest:
    """Return what the finished stage in a folder says of itself; UserError where that is missing or damaged."""
    manifest: Manifest = read_json(folder / MANIFEST, Manifest)
    return manifest


@dataclass(frozen=True)
class Built:
    """A finished stage: where it is, and what it cost when it was built (`cached` where this run found it done)."""

    name: str
    folder: Path
    seconds: float
    peak_rss_mb: float
    cached: bool


class Store:
    """Stages under one root, each a folder made by a build function and described by its key.

    The cache names a stage's folder by its name and the hash of its key, so that runs share it; a run folder
    (`hashed=False`) has one folder a stage. Processes that want the same stage wait for the one that builds it.
    """

    def __init__(self, root: Path, hashed: bool, notify: Callable[[str], None]) -> None:
        self.root = root
        self.hashed = hashed
        self.notify = notify

    def folder(self, name: str, key: Mapping[str, Any]) -> Path:
        """Where the stage of that name and key is or will be."""
        return self.root / (f"{name}-{key_hash(key)[:16]}" if self.hashed else name)

    def stage(
        self, name: str, key: Mapping[str, Any], build: Callable[[Path], None], collective: bool = False
    ) -> Built:
        """Return the finished stage, built now if need be by `build(partial_folder)`.

        With several processes rank 0 decides and holds the lock; the others take part in a `collective` build
        (training) and wait for any other.
        """
        folder = self.folder(name, key)
        with self._locked(folder):
            found = distributed.from_main(self._find(folder, key) if distributed.is_main() else None)
            if found is not None:
                return Built(name, folder, found.seconds, found.peak_rss_mb, cached=True)
            partial = folder.with_name(f"{folder.name}.partial")
            with Meter() as meter, disk_errors(self.root):
                if distributed.is_main():
                    self._begin(partial, folder, key)
                distributed.wait()
                if collective or distributed.is_main():
                    try:
                        build(partial)
                    except BaseException:
                        with suppress(OSError):  # what holds a checkpoint stays for the next try
                            partial.rmdir()
                            _begun(folder).unlink()
                        raise
            if distributed.is_main():
                with disk_errors(self.root):
                    self._finish(partial, folder, key, meter)
            distributed.wait()
        return Built(name, folder, meter.seconds, meter.peak_rss_mb, cached=False)

    def _find(self, folder: Path, key: Mapping[str, Any]) -> Manifest | None:
        """Return the manifest of a whole stage. A damaged one is removed, saying so, and will be built again."""
        if not folder.exists():
            return None
        try:
            manifest = read_manifest(folder)
            damaged = next((f for f, mark in manifest.files.items() if _mark(folder / f) != mark), None)
        except (UserError, OSError, ValueError):
            damaged = MANIFEST
        if damaged is None and manifest.key != key_hash(key):
            if not self.hashed:
                raise UserError(
                    f"{folder} was made from other inputs than this run's: choose another output=, or delete it"
                )
            damaged = MANIFEST
        if damaged is None:
            return manifest
        self.notify(f"{folder} is damaged ({damaged}): building it again")
        shutil.rmtree(folder)
        return None

    def _begin(self, partial: Path, folder: Path, key: Mapping[str, Any]) -> None:
        """Make the partial folder, without what an earlier try from other inputs may have left there."""
        begun = _begun(folder)
        if partial.exists() and begun.exists() and begun.read_text() != key_hash(key):
            self.notify(f"{partial} was begun from other inputs: starting this stage again")
            shutil.rmtree(partial)
        begun.write_text(key_hash(key))
        partial.mkdir(exist_ok=True)

    @staticmethod
    def _finish(partial: Path, folder: Path, key: Mapping[str, Any], meter: Meter) -> None:
        for cut_short in partial.rglob(".*.tmp"):  # of a write that was killed
            cut_short.unlink()
        found = [f for f in sorted(partial.rglob("*")) if f.is_file() and f.name != MANIFEST]
        files = {str(f.relative_to(partial)): _mark(f) for f in found}
        cost = {"seconds": round(meter.seconds, 3), "peak_rss_mb": round(meter.peak_rss_mb, 1)}
        write_json(partial / MANIFEST, {"key": key_hash(key), "inputs": key, "files": files, **cost})
        os.replace(partial, folder)
        _begun(folder).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        if not distributed.is_main():
            yield
            return
        with disk_errors(self.root):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(f".{folder.name}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.notify(f"waiting for another run that is making {folder.name}")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


def copy_stage(source: Path, folder: Path) -> None:
    """Copy what a stage made into a folder, without its manifest."""
    with disk_errors(folder):
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)


def _begun(folder: Path) -> Path:
    """Return the file with the key from which a stage is being built."""
    return folder.with_name(f".{folder.name}.key")


def key_hash(key: Mapping[str, Any]) -> str:
    """Return what tells inputs apart, as they are or as a manifest has them.

    JSON knows no tuples, so do not compare those.
    """
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _mark(path: Path) -> str:
    """Return what must not change about a finished file: its size and its content."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        return f"{size}:{hashlib.file_digest(file, 'sha256').hexdigest()}"
