"""The leak report as files: the same again, no nan in JSON, a fixed table, and one line where it is broken."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.leak.ladder import LadderStep
from unlearn.leak.leak_row import Row
from unlearn.leak.leak_table import Leaks
from unlearn.leak.tables import load_leaks, save_leaks
from unlearn.leak.verdict import Worst
from unlearn.runtime.errors import UserError

COLUMNS = (
    "attack family threat data budget original unlearned control before gain excess leak low high on_attacker_items "
    "utility seconds gflop status reason variant counts cost area reference measure with_original "
    "could_find able removed"
)


def leaks(number: float = 0.5) -> Leaks:
    row = Row("one", "f", "white", "5 items", "9 steps", leak=number, cost=math.inf, variant="a, b", reason='say "x"')
    failed = Row("two", "f", "grey", "", "", status="error", reason="line\nline")
    step_ = LadderStep("one", 5.0, 1.0, number, 0.0, number)
    worst = Worst("overall", number, -number, math.nan, "inconclusive", {"one": 0.75, "two": 0.25})
    return Leaks((row, failed), (step_,), (worst,), "control", ("a note",))


def same(one: object, other: object) -> bool:
    return repr(one) == repr(other)  # nan is not nan


def test_there_and_back(tmp_path: Path) -> None:
    about = {"seed": 3, "leak": None, "nested": {"low": None, "x": "inf"}}
    save_leaks(leaks(), about, tmp_path)
    back, told = load_leaks(tmp_path / "leak.json")
    assert same(back, leaks())
    assert told == about
    assert back.rows[0].cost == math.inf
    assert math.isnan(back.rows[1].leak)
    assert back.rows[0].budget == "9 steps"


@given(st.floats(width=32) | st.floats())
def test_any_number_there_and_back(number: float) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        save_leaks(leaks(number), {}, Path(folder))
        text = (Path(folder) / "leak.json").read_text()
        assert json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
        back = load_leaks(Path(folder) / "leak.json")[0].rows[0].leak
    if not math.isnan(number):
        assert back == number
    else:
        assert math.isnan(back)


def test_the_table_has_a_fixed_schema(tmp_path: Path) -> None:
    save_leaks(leaks(), {}, tmp_path)
    table = pd.read_csv(tmp_path / "leak.csv")
    assert list(table) == COLUMNS.split() == [field.name for field in fields(Row)]
    assert list(table["attack"]) == ["one", "two"]
    assert table["leak"][0] == 0.5
    assert np.isnan(table["leak"][1])
    assert table["cost"][0] == math.inf
    assert table["reason"][1] == "line\nline"
    assert "nan" not in (tmp_path / "leak.csv").read_text().lower()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"attack": "x"}]}, "is damaged: rows.0.family"),
        ({"baseline": "nobody"}, "is damaged: baseline"),
        ({"worst": [asdict(leaks().worst[0]) | {"leak": "x"}]}, "is damaged: worst.0.leak"),
        (None, "is damaged"),
    ],
)
def test_a_damaged_report_is_one_line(tmp_path: Path, change: dict[str, object] | None, message: str) -> None:
    save_leaks(leaks(), {}, tmp_path)
    path = tmp_path / "leak.json"
    path.write_text(json.dumps([] if change is None else json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_leaks(path)
    path.unlink()
    with pytest.raises(UserError, match="there is no file"):
        load_leaks(path)
