"""The leak report as files: one JSON with everything, and the table as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from unlearn.leak.ladder import LadderStep
from unlearn.leak.leak_row import Row
from unlearn.leak.leak_table import Leaks
from unlearn.leak.verdict import Worst
from unlearn.runtime.errors import UserError
from unlearn.runtime.read import read_json
from unlearn.runtime.store import write_file, write_json

if TYPE_CHECKING:
    from pathlib import Path

LEAK = "leak.json"
TABLE = "leak.csv"


def save_leaks(leaks: Leaks, about: Mapping[str, Any], folder: Path) -> None:
    """Write leak.json (the report and `about`) and leak.csv (its rows). nan becomes null, infinity "inf" or "-inf"."""
    write_json(folder / LEAK, _json(asdict(leaks)) | {"about": dict(about)})
    csv = leak_table(leaks).to_csv(index=False)
    write_file(folder / TABLE, lambda path: path.write_text(csv, encoding="utf-8"))


def leak_table(leaks: Leaks) -> pd.DataFrame:
    """Return the rows as a table, a column for each field."""
    return pd.DataFrame([asdict(row) for row in leaks.rows], columns=[field.name for field in fields(Row)])


def load_leaks(path: Path) -> tuple[Leaks, dict[str, Any]]:
    """Return the report that `save_leaks` wrote, and its `about`; UserError where it is missing or damaged."""
    content = read_json(path)
    about = content.pop("about", {}) if isinstance(content, dict) else {}
    try:
        return TypeAdapter(Leaks).validate_python(_numbers(content)), about
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error


_FLOATS = {f.name for kind in (Row, LadderStep, Worst) for f in fields(kind) if f.type == "float"}


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbers(value: Any) -> Any:
    """Return what JSON has no number for as numbers."""
    if isinstance(value, Mapping):
        return {
            key: (math.nan if item is None else float(item) if item in ("inf", "-inf") else item)
            if key in _FLOATS
            else _numbers(item)
            for key, item in value.items()
        }
    return [_numbers(item) for item in value] if isinstance(value, list) else value
