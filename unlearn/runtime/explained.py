"""Tables that explain themselves: a frame with its title, what it shows in words, and how it is drawn, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from unlearn.runtime.errors import UserError
from unlearn.runtime.store import write_file

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

Kind = Literal["line", "bar", "heatmap", "scatter", "ranking"]
_KEY = b"explained"  # of the Parquet file's metadata


@dataclass(frozen=True)
class Chart:
    """How a table is drawn: the kind of chart, and which column plays which role. "" and () are roles left out.

    Rows that are alike in all that is drawn count by their mean. What several models (or runs) have is drawn in one
    colour for each.
    """

    kind: Kind
    """line: `y` over `x`. bar: `y` by `x`, or several `y` side by side. heatmap: `z` by `x` and row `y`, or bars where
    a panel has no rows. scatter: `y` against `x`. ranking: the largest `z` by absolute value, named by `x` and `y`."""
    x: str = ""
    """Column along the axis. Of bars, categories in their order; of a heat map, numbers from 0."""
    y: tuple[str, ...] = ()
    """Columns that are measured; of a heat map, the one column of its rows."""
    z: str = ""
    """Column of a heat map's cells or of a ranking's lengths."""
    series: str = ""
    """Column whose values are told apart by colour."""
    panel: str = ""
    """Column with a panel for each value; rows without a value are not drawn."""
    band: str = ""
    """Column of a heat map with a row of panels for each of its first two values."""
    baseline: str = ""
    """Column with what `y` is without knowledge, drawn dashed."""
    low: str = ""
    """Column with the lower end of the interval."""
    high: str = ""
    """Column with the upper end of the interval."""
    exact: str = ""
    """Column with what `z` estimates, where that was computed: drawn beside it, and against it in a last panel."""
    marked: str = ""
    """Column that is True for what is to stand out: places on a line's axis, bars, rows of a heat map."""
    ticks: tuple[str, ...] = ()
    """Columns that name the places along the axis of a line, or the rows of a heat map."""
    joined: bool = False
    """True: all `y` of a line are in one panel. False: each has its own."""
    signed: bool = False
    """True: a heat map's colours part at 0."""
    shares: bool = True
    """True: values are shares, shown on the whole scale from 0 to 1. False: the axis is as long as they are."""
    log: tuple[str, ...] = ()
    """Columns that are shown on a logarithmic scale, where they vary by much."""
    levels: Mapping[str, float] = field(default_factory=dict)
    """Values at which a dotted line is drawn, by column of `y`."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What columns and their values are called in the picture."""

    @property
    def columns(self) -> set[str]:
        """The columns that are drawn."""
        one = (self.x, self.z, self.series, self.panel, self.band, self.baseline)
        return {*one, self.low, self.high, self.exact, self.marked, *self.y, *self.ticks} - {""}


@dataclass(frozen=True)
class Explained:
    """A table that is shown by whoever finds it, with no knowledge of who made it."""

    frame: pd.DataFrame
    """The table."""
    title: str = ""
    """What it is, in a few words; "": the name under which it is saved."""
    words: str = ""
    """What it shows and how it is to be read, in a sentence or two."""
    chart: Chart | None = None
    """How it is drawn; None: it is shown as it is."""

    def __post_init__(self) -> None:
        lacking = sorted(self.chart.columns - set(self.frame.columns)) if self.chart else []
        if lacking:
            raise ValueError(f"the table {self.title!r} lacks the column(s) {', '.join(lacking)} that its chart names")

    def save(self, path: Path) -> None:
        """Write one Parquet file with all of it, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        about = {"title": self.title, "words": self.words, "chart": asdict(self.chart) if self.chart else None}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: json.dumps(about).encode()})
        write_file(path, lambda temporary: pq.write_table(table, temporary))

    @classmethod
    def load(cls, path: Path) -> Explained:
        """Read what `save` wrote; a Parquet file of another writer has no title, words and chart.

        Raises UserError where the file is missing or damaged.
        """
        import pandas as pd
        import pyarrow.parquet as pq
        from pydantic import TypeAdapter, ValidationError

        try:
            frame = pd.read_parquet(path)
            metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
            about: dict[str, Any] = json.loads(metadata.get(_KEY, b"{}"))
            chart = TypeAdapter(Chart | None).validate_python(about.get("chart"))
            return cls(frame, about.get("title", ""), about.get("words", ""), chart)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path} is damaged: chart {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the table {path}: {error}") from error
