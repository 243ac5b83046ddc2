"""Files of a run folder as values: JSON as a type, columns of tables; UserError where they are damaged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import pyarrow.parquet
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from unlearn.runtime.errors import UserError
from unlearn.runtime.store import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]  # JSON has no nan


def parsed(path: Path, hint: Any) -> Any:
    """Return a JSON file as the type `hint`."""
    return checked(read_json(path), hint, path)


def checked(content: Any, hint: Any, path: Path) -> Any:
    """Return what a file holds, as the type `hint`."""
    try:
        return TypeAdapter(hint).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error


def columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Those columns of a table, the optional ones if they are there; UserError where it is unreadable or lacks one."""
    try:
        there = set(pyarrow.parquet.read_schema(path).names)
        if missing := set(columns) - there:
            raise UserError(f"the table {path} lacks the column(s) {', '.join(sorted(missing))}")
        return pd.read_parquet(path, columns=[*columns, *there.intersection(optional)])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the table {path}: {error}") from error
