"""Numbers and tables of a run folder; UserError where they are damaged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import pyarrow.parquet
from pydantic import BeforeValidator

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]  # JSON has no nan


def columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Those columns of a table, the optional ones if they are there; UserError where it is unreadable or lacks one."""
    try:
        there = set(pyarrow.parquet.read_schema(path).names)
        if missing := set(columns) - there:
            raise UserError(f"the table {path} lacks the column(s) {', '.join(sorted(missing))}")
        return pd.read_parquet(path, columns=[*columns, *there.intersection(optional)])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the table {path}: {error}") from error
