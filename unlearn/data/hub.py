"""Rows of a dataset on the hub or in a local folder of the same layout, checked column by column."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, overload

from unlearn.data.words import blank
from unlearn.runtime.errors import UserError, nearest
from unlearn.runtime.paths import local, prefer_local
from unlearn.runtime.read import read_objects

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
            names, result = _read(str(place) if place.exists() else path, config, split, columns, cache)
        except UserError:
            raise
        except Exception as error:  # the library raises a dozen kinds
            if optional and ("BuilderConfig" in str(error) or "not found" in str(error)):
                return None
            raise UserError(f"{where}: cannot be read ({_reason(error)})") from error
    for name in columns:
        if name not in names:
            guess = nearest(name, names)
            columns_there = f"there are: {', '.join(names)}" if names else "there are none: perhaps it is empty"
            hint = f"there is '{guess}'" if guess else columns_there
            raise UserError(f"{where}: no column '{name}' ({hint})")
    for i, row in enumerate(result):
        for name, kind in columns.items():
            _check(row[name], kind, f"{where}, row {i}: '{name}'")
    return result


def _read(
    source: str, config: str | None, split: str, columns: Mapping[str, type], cache: Mapping[str, str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return column names and rows as they are written: the library guesses dates in JSON and numbers in CSV."""
    from datasets import DownloadManager, Features, Value, load_dataset_builder

    builder = load_dataset_builder(source, config, **cache)
    kind = type(builder.config).__name__
    if kind == "JsonConfig" and builder.config.field is None:
        parts = builder.config.data_files
        chosen = [file for part in (parts if split == "all" else [split]) for file in parts[part]]
        files = DownloadManager().download_and_extract(chosen)
        result = [row for file in files for row in read_objects(Path(file), columns)]
        return list(dict.fromkeys(name for row in result for name in row)), result
    if kind == "CsvConfig":
        texts = Features({name: Value("string") for name in columns})
        builder = load_dataset_builder(source, config, features=texts, keep_default_na=False, **cache)
    builder.download_and_prepare()
    rows = builder.as_dataset(split)
    return rows.column_names, rows.to_list()


def read_lines(path: str) -> list[str]:
    """Return the non-empty lines of a UTF-8 text file; UserError where there are none."""
    try:
        lines = [line.strip() for line in local(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if all(map(blank, lines)):
        raise UserError(f"{path} is empty: one text a line is wanted")
    return [line for line in lines if not blank(line)]


def _reason(error: BaseException) -> str:
    """Return what went wrong at first, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shorten(str(error), 160, placeholder=" ...") or "perhaps it is empty"


def _check(value: Any, kind: type, where: str) -> None:
    texts = value if kind is list else [value]
    if not isinstance(value, kind) or not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where} is {str(value)[:60]!r}, not {_KINDS[kind]}")
    if any(map(blank, texts)):
        raise UserError(f"{where} is empty")
