"""Tables that explain themselves: one file holds the table, its words and how it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest

from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from pathlib import Path

FRAME = pd.DataFrame({"kind": ["a", "b"], "share": [0.25, None], "who": ["é", "漢"]})


def test_there_and_back(tmp_path: Path) -> None:
    chart = Chart("bar", "kind", ("share",), levels={"share": 0.5}, words={"share": "Anteil é"}, shares=False)
    Explained(FRAME, "A title", "Some words: é.", chart).save(tmp_path / "t.parquet")
    back = Explained.load(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(back.frame, FRAME)
    assert (back.title, back.words, back.chart) == ("A title", "Some words: é.", chart)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), FRAME)  # anyone can read it
    assert [f.name for f in tmp_path.iterdir()] == ["t.parquet"]


def test_a_table_of_another_writer_has_no_words(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "t.parquet")
    back = Explained.load(tmp_path / "t.parquet")
    assert (back.title, back.words, back.chart) == ("", "", None)


def test_the_same_table_is_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        Explained(FRAME, "A title", "", Chart("line", "kind", ("share",))).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_chart_of_columns_that_are_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the table 'T' lacks the column\(s\) layer, score that its chart names"):
        Explained(FRAME, "T", "", Chart("line", "layer", ("score", "share")))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ('{"chart": {"kind": "pie"}}', "is damaged: chart kind"),
        ('{"chart": {"kind": "bar", "x": 3}}', "is damaged: chart x"),
        ("{", "cannot read the table"),
        ('{"chart": {"kind": "bar", "x": "gone"}}', "lacks the column"),
    ],
)
def test_damaged_words_are_one_clear_line(tmp_path: Path, about: str, message: str) -> None:
    FRAME.to_parquet(path := tmp_path / "t.parquet")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"explained": about}), path)
    with pytest.raises(UserError, match=message):
        Explained.load(path)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the table"):
        Explained.load(tmp_path / "none.parquet")
