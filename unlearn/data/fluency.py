"""Plain text on which editing keeps a model fluent: the package's own passages, or the user's."""

from __future__ import annotations

from pathlib import Path

from unlearn.data.hub import read_rows
from unlearn.data.task import Passage
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import is_local, local

OWN = Path(__file__).with_suffix(".txt")
MOST = 1000  # passages kept: more than a run of fifty updates sees
SHORTEST = 100  # characters; headings and captions are no passages


def check_fluency(path: str | None, key: str = "dataset.fluency") -> None:
    """UserError, naming the `key`, where `path` is a local one and there is nothing."""
    if path is not None and is_local(path) and not local(path).exists():
        raise UserError(f"'{key}' is {path!r}: there is no such file or folder")


def fluency(path: str | None) -> tuple[Passage, ...]:
    """Return the first 1,000 passages of at least 100 characters.

    path: a text file with blank lines between passages, a hub id or a local folder with a column `text`, or None for
    the package's own passages. Raises UserError where it cannot be read or holds no such passage.
    """
    if path is None or local(path).is_file():
        texts = _paragraphs(OWN if path is None else local(path))
    else:
        texts = [row["text"] for row in read_rows(path, None, {}) if isinstance(row.get("text"), str)]
    passages = tuple(Passage(text.strip()) for text in texts if len(text.strip()) >= SHORTEST)[:MOST]
    if not passages:
        raise UserError(f"'dataset.fluency' is {path!r}: no passage of at least {SHORTEST} characters is in it")
    return passages


def _paragraphs(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
