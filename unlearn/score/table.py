"""The tables that scoring makes and metrics read. Everything a metric needs is in them; no metric needs a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TOKENS = [
    "probe",
    "aim",
    "normalise",
    "item",
    "cluster",
    "kind",
    "choice",
    "text",
    "eos",
    "logp",
    "hit",
    "mean",
    "var",
    "zlib",
]
GENERATIONS = ["probe", "aim", "item", "cluster", "question", "answer", "paraphrase", "value", "generation"]
GRADIENTS = ["probe", "aim", "item", "cluster", "gradnorm"]
COLUMNS = {"tokens": TOKENS, "generations": GENERATIONS, "gradients": GRADIENTS}
"""Columns of the tables that this package's metrics read."""

Tables = Mapping[str, "pd.DataFrame"]
"""What one model said, by the name that a scorer gives each table."""


def probe_names(tables: Tables, *aims: str) -> list[str]:
    """Return the names of the probe sets with one of those aims (of all where none is named), in table order."""
    tokens = tables["tokens"]
    rows = tokens[tokens["aim"].isin(aims)] if aims else tokens
    return list(rows["probe"].unique())


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that scorers left in a folder; UserError where one is unreadable, or there is none."""
    found = {path.stem: Explained.load(path).frame for path in sorted(folder.glob("*.parquet"))}
    if not found:
        raise UserError(f"there are no score tables in {folder}")
    for name, columns in COLUMNS.items():
        if missing := set(columns) - set(found[name].columns) if name in found else set():
            raise UserError(f"the score table {folder / name}.parquet lacks the column(s) {', '.join(sorted(missing))}")
    return found
