"""What an attack found, there and back again, and what is said where the files are broken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.record import Found, Record
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

NAN = math.nan


def found() -> Found:
    outcomes = (
        Outcome(
            "plain", np.array([0.25, NAN, -0.1]), ("a", "", "<b> ü\n"), seed=2, taught=0.5, utility=0.75, row="direct"
        ),
        Outcome("other", np.array([1.0, 0.0, 0.0]), seed=3, choice=0.5, budget=8.0, counts=False),
    )
    chart = Chart("line", "layer", ("accuracy",), levels={"accuracy": 0.5}, words={"accuracy": "share"})
    table = Explained(pd.DataFrame({"layer": [0, 1], "accuracy": [0.5, NAN]}), "Probes", "What is read.", chart)
    numbers = {"a": 0.5, "b": NAN, "c": math.inf}
    return Found(AttackResult(outcomes, "5 items", "9 steps", "AUC", numbers, {"probe": table}), 1.5, 2.5)


def test_there_and_back(tmp_path: Path) -> None:
    found().save(tmp_path / "one")
    back = Found.load(tmp_path / "one")
    for mine, its in zip(found().attacked.outcomes, back.attacked.outcomes, strict=True):
        np.testing.assert_array_equal(mine.known, its.known)
        assert list(mine.texts) == list(its.texts)
        names = ("variant", "seed", "taught", "choice", "budget", "utility", "row", "counts")
        assert [getattr(mine, name) for name in names] == [getattr(its, name) for name in names]
    attacked = back.attacked
    assert (attacked.data, attacked.budget, attacked.measure) == ("5 items", "9 steps", "AUC")
    assert attacked.numbers["a"] == 0.5 and math.isnan(attacked.numbers["b"]) and math.isnan(attacked.numbers["c"])
    pd.testing.assert_frame_equal(attacked.tables["probe"].frame, found().attacked.tables["probe"].frame)
    table, own = attacked.tables["probe"], found().attacked.tables["probe"]
    assert (table.title, table.words, table.chart) == (own.title, own.words, own.chart)
    assert (back.seconds, back.gflop, back.status, back.reason) == (1.5, 2.5, "ok", "")
    assert "NaN" not in (tmp_path / "one/attack.json").read_text()


def test_what_an_earlier_version_found_can_be_read(tmp_path: Path) -> None:
    found().save(tmp_path)
    path = tmp_path / "outcomes.parquet"
    pd.read_parquet(path).drop(columns=["with_original", "measure"]).to_parquet(path)
    assert {(o.with_original, o.measure) for o in Found.load(tmp_path).attacked.outcomes} == {(False, "")}


def test_a_choice_that_is_nan_stays_a_choice_the_worst(tmp_path: Path) -> None:
    outcomes = [Outcome(v, np.zeros(2), choice=choice) for v, choice in (("a", NAN), ("b", 0.0))]
    Found(AttackResult(outcomes)).save(tmp_path)
    assert [outcome.choice for outcome in Found.load(tmp_path).attacked.outcomes] == [-math.inf, 0.0]


def test_a_failure_there_and_back(tmp_path: Path) -> None:
    Found.failed("skipped", "there is no adapter").save(tmp_path)
    back = Found.load(tmp_path)
    assert (back.status, back.reason) == ("skipped", "there is no adapter")
    assert not back.attacked.outcomes and math.isnan(back.seconds)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no attack.json": (lambda f: (f / "attack.json").unlink(), "there is no file .*attack.json"),
    "cut json": (lambda f: (f / "attack.json").write_text("{"), "cannot read .*attack.json"),
    "no status": (lambda f: _drop(f / "attack.json", "status"), "attack.json is damaged: status"),
    "odd status": (lambda f: _drop(f / "attack.json", "", status="fine"), "attack.json is damaged: status"),
    "no outcomes": (lambda f: (f / "outcomes.parquet").unlink(), "cannot read the attack in"),
    "cut outcomes": (lambda f: (f / "outcomes.parquet").write_bytes(b"PAR1"), "cannot read the attack in"),
    "no K": (
        lambda f: pd.DataFrame({"variant": ["a"]}).to_parquet(f / "outcomes.parquet"),
        "cannot read the attack in",
    ),
    "no table": (lambda f: (f / "probe.parquet").unlink(), "cannot read the table .*probe.parquet"),
}


def _drop(path: Path, name: str, **values: object) -> None:
    content = json.loads(path.read_text())
    content.pop(name, None)
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_clear_line(tmp_path: Path, name: str) -> None:
    damage, message = BROKEN[name]
    found().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        Found.load(tmp_path)


def test_the_first_failure_is_the_records() -> None:
    fine, failed = Found(AttackResult([Outcome("a", np.ones(1))])), Found.failed("error", "first")
    assert Record("x", "black", "f", "r", {"original": fine, "unlearned": failed}).failure is failed
    one = Record("x", "black", "f", "r", {"original": fine})
    assert one.failure is None and len(one.outcomes("original")) == 1 and one.outcomes("control") == ()
