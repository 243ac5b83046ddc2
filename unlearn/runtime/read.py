"""Files as values, checked before they are used: UserError says which file, and where in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def read_json(path: Path, hint: Any = Any) -> Any:
    """Return what a JSON file holds, as the type `hint`; UserError where it is missing, damaged or of another type."""
    return checked(_json(_text(path), f"cannot read {path}"), hint, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file, interpolations resolved; UserError where it is missing, damaged or has none."""
    from omegaconf import OmegaConf

    text = _text(path)
    try:
        found = OmegaConf.to_container(OmegaConf.create(text), resolve=True) if text.strip() else None
    except Exception as error:  # of YAML or of OmegaConf
        raise UserError(f"cannot read {path}: {_short(error)}") from error
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path} is damaged: it holds no configuration")
    return {str(key): value for key, value in found.items()}


def checked(content: Any, hint: Any, path: Path) -> Any:
    """Return what a file holds, as the type `hint`."""
    try:
        return TypeAdapter(hint).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise UserError(f"{path} is damaged: {f'{place}: ' if place else ''}{message}") from error


def read_objects(path: Path, fields: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the objects of a JSON file, one a line or all in one list, each with at least `fields`.

    UserError where the file is not UTF-8, or a line is no object or lacks a field: it names the line.
    """
    text = _text(path)
    if text.lstrip().startswith("["):
        whole = _json(text, f"cannot read {path}")
        found = [(f"{path}, entry {i}", row) for i, row in enumerate(whole)]
    else:
        lines = [(f"{path}, line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        found = [(where, _json(line, f"{where} is no JSON")) for where, line in lines]
    for where, row in found:
        if not isinstance(row, dict):
            raise UserError(f"{where} is {str(row)[:60]!r}, not a JSON object")
    known = {name for _, row in found for name in row}
    for name in fields:
        if name in known:  # a column that is nowhere is another mistake: its reader says which there are
            for where, row in found:
                if name not in row:
                    raise UserError(f"{where} has no '{name}'")
    return [row for _, row in found]


def _text(path: Path) -> str:
    """Return a UTF-8 file without its byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line} is not UTF-8 (byte {content[error.start]:#04x})") from error


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return str(error)[:160]
