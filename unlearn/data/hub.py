"""Rows of a dataset on the hub or in a local folder of the same layout, checked column by column."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, overload

from unlearn.runtime.errors import UserError, nearest
from unlearn.runtime.paths import local, prefer_local

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: dict[type, str] = {str: "text", list: "a list of texts"}


@overload
def read_rows(
    path: str, config: str | None, columns: Mapping[str, type], split: str = ..., optional: Literal[False] = ...
) -> list[dict[str, Any]]: ...
@overload
def read_rows(
    path: str, config: str | None, columns: Mapping[str, type], split: str = ..., *, optional: bool
) -> list[dict[str, Any]] | None: ...
def read_rows(
    path: str, config: str | None, columns: Mapping[str, type], split: str = "train", optional: bool = False
) -> Any:
    """Return the rows of one config (None: the only one), each with at least `columns`.

    Raises UserError where the dataset cannot be read, a column is missing or an entry is empty or of another kind. With
    `optional`, a config that does not exist gives None.
    """
    place = local(path)
    if not place.exists():
        prefer_local()
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    where = f"dataset '{path}'" + (f", config '{config}'" if config else "")
    with TemporaryDirectory() as scratch:
        # the library's own cache knows a local folder by its name alone: another one, or a changed one, would be missed
        cache = {"cache_dir": scratch} if place.exists() else {}
        try:
            rows = datasets.load_dataset(str(place) if place.exists() else path, config, split=split, **cache)
        except Exception as error:  # the library raises a dozen kinds
            if optional and ("BuilderConfig" in str(error) or "not found" in str(error)):
                return None
            raise UserError(f"{where}: cannot be read ({_reason(error)})") from error
        names, result = rows.column_names, rows.to_list()
    for name in columns:
        if name not in names:
            guess = nearest(name, names)
            hint = f"there is '{guess}'" if guess else f"there are: {', '.join(names)}"
            raise UserError(f"{where}: no column '{name}' ({hint})")
    for i, row in enumerate(result):
        for name, kind in columns.items():
            _check(row[name], kind, f"{where}, row {i}: '{name}'")
    return result


def read_lines(path: str) -> list[str]:
    """Return the non-empty lines of a UTF-8 text file; UserError where there are none."""
    try:
        lines = [line.strip() for line in local(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not any(lines):
        raise UserError(f"{path} is empty: one text a line is wanted")
    return [line for line in lines if line]


def _reason(error: BaseException) -> str:
    """Return what went wrong at first, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shorten(str(error), 160, placeholder=" ...") or "perhaps it is empty"


def _check(value: Any, kind: type, where: str) -> None:
    texts = value if kind is list else [value]
    if not isinstance(value, kind) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where} is {str(value)[:60]!r}, not {_KINDS[kind]}")
    if not all(text.strip() for text in texts):
        raise UserError(f"{where} is empty")
