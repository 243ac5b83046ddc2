"""What an attack found, there and back again, and what is said where the files are broken."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.record import AttackRun, Record
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAN = math.nan


def found() -> AttackRun:
    outcomes = (
        Outcome(
            "plain",
            np.array([0.25, NAN, -0.1]),
            ("a", "", "<b> ü\n"),
            seed=2,
            on_attacker_items=0.5,
            utility=0.75,
            row="direct",
        ),
        Outcome("other", np.array([1.0, 0.0, 0.0]), seed=3, self_estimate=0.5, budget=8.0, counts=False),
    )
    chart = Chart("line", "layer", ("accuracy",), levels={"accuracy": 0.5}, words={"accuracy": "share"})
    table = Explained(pd.DataFrame({"layer": [0, 1], "accuracy": [0.5, NAN]}), "Probes", "What is read.", chart)
    numbers = {"a": 0.5, "b": NAN, "c": math.inf}
    return AttackRun(AttackResult(outcomes, "5 items", "9 steps", "AUC", numbers, {"probe": table}), 1.5, 2.5)


def test_there_and_back(tmp_path: Path) -> None:
    found().save(tmp_path / "one")
    back = AttackRun.load(tmp_path / "one")
    for mine, its in zip(found().result.outcomes, back.result.outcomes, strict=True):
        np.testing.assert_array_equal(mine.known, its.known)
        assert list(mine.texts) == list(its.texts)
        names = ("variant", "seed", "on_attacker_items", "self_estimate", "budget", "utility", "row", "counts")
        assert [getattr(mine, name) for name in names] == [getattr(its, name) for name in names]
    attacked = back.result
    assert (attacked.data, attacked.budget, attacked.measure) == ("5 items", "9 steps", "AUC")
    assert attacked.numbers["a"] == 0.5
    assert math.isnan(attacked.numbers["b"])
    assert math.isnan(attacked.numbers["c"])
    pd.testing.assert_frame_equal(attacked.tables["probe"].frame, found().result.tables["probe"].frame)
    table, own = attacked.tables["probe"], found().result.tables["probe"]
    assert (table.title, table.words, table.chart) == (own.title, own.words, own.chart)
    assert (back.seconds, back.gflop, back.status, back.reason) == (1.5, 2.5, "ok", "")
    assert "NaN" not in (tmp_path / "one/attack.json").read_text()


def test_an_estimate_that_is_nan_stays_one_the_worst(tmp_path: Path) -> None:
    outcomes = [Outcome(v, np.zeros(2), self_estimate=choice) for v, choice in (("a", NAN), ("b", 0.0))]
    AttackRun(AttackResult(outcomes)).save(tmp_path)
    assert [outcome.self_estimate for outcome in AttackRun.load(tmp_path).result.outcomes] == [-math.inf, 0.0]


def test_a_failure_there_and_back(tmp_path: Path) -> None:
    AttackRun.failed("skipped", "there is no adapter").save(tmp_path)
    back = AttackRun.load(tmp_path)
    assert (back.status, back.reason) == ("skipped", "there is no adapter")
    assert not back.result.outcomes
    assert math.isnan(back.seconds)


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
    "a column less": (
        lambda f: pd.read_parquet(f / "outcomes.parquet").drop(columns="measure").to_parquet(f / "outcomes.parquet"),
        "cannot read the attack in .*measure",
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
        AttackRun.load(tmp_path)


def test_the_first_failure_is_the_records() -> None:
    fine, failed = AttackRun(AttackResult([Outcome("a", np.ones(1))])), AttackRun.failed("error", "first")
    assert Record("x", "black", "f", "r", {"original": fine, "unlearned": failed}).failure is failed
    one = Record("x", "black", "f", "r", {"original": fine})
    assert one.failure is None
    assert len(one.outcomes("original")) == 1
    assert one.outcomes("control") == ()
