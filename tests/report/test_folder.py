"""Reading run folders, whole and broken."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from unlearn.errors import UserError
from unlearn.report.folder import read_run

MakeRun = Callable[..., Path]


def test_reads_everything(make_run: MakeRun) -> None:
    run = read_run(make_run(seed=3, change={"forget/probability": 0.25}))
    assert run.models == ["target", "unlearned", "retain"]
    found = run.result("unlearned", "forget/probability")
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (0.25, 0.21, 0.29, 40)
    assert run.about.seed == 3 and str(run.about.task) == "authors forget10"
    assert run.about.stages[1].seconds == 10.25 and run.about.stages[0].cached
    assert run.roles == {"forget": "forget", "retain": "retain", "world": "utility", "holdout": "holdout"}
    assert [point["step"] for point in run.curve] == [10, 20, 30]
    assert len(run.history) == 40 and run.history[0]["loss"] == 2.0
    assert run.method == "NPO" and run.config["method"]["beta"] == 0.1
    assert run.generations("target")["generation"].iloc[0] == "target says forget 0"


def test_the_chosen_name_of_the_method_wins(make_run: MakeRun) -> None:
    folder = make_run()
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"choices": {"method": "npo_variant"}}))
    assert read_run(folder).method == "npo_variant"


def test_what_may_be_missing(make_run: MakeRun) -> None:
    folder = make_run(has_retain=False, change={"forget/probability": None})
    shutil.rmtree(folder / "unlearned")
    shutil.rmtree(folder / "scores")
    run = read_run(folder)
    assert run.models == ["target", "unlearned"]
    assert run.result("retain", "model_utility") is None
    undefined = run.result("unlearned", "forget/probability")
    assert undefined is not None and math.isnan(undefined.value) and math.isnan(undefined.low)
    assert not run.curve and not run.history and run.generations("target").empty
    assert run.roles["world"] == "utility" and run.roles["forget"] == "forget"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _drop_column(path: Path) -> None:
    pd.read_parquet(path).drop(columns=["generation"]).to_parquet(path)


def _set(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN = {
    "no config": (lambda f: (f / "config.yaml").unlink(), "not a run folder"),
    "no metrics": (lambda f: (f / "metrics.json").unlink(), "not finished.*metrics.json"),
    "no run.json": (lambda f: (f / "run.json").unlink(), "not finished.*run.json"),
    "cut metrics": (lambda f: _cut(f / "metrics.json"), "metrics.json"),
    "cut config": (lambda f: (f / "config.yaml").write_text("method: {a: [1"), "config.yaml"),
    "config without keys": (lambda f: (f / "config.yaml").write_text("- 1\n"), "config.yaml.*no configuration"),
    "binary metrics": (lambda f: (f / "metrics.json").write_bytes(b"\xff\xfe\x00"), "metrics.json"),
    "result without value": (
        lambda f: _set(f / "metrics.json", target=[{"name": "a", "probe": "", "low": 0, "high": 1, "n": 1}]),
        r"metrics.json is damaged: target.0.value",
    ),
    "no target": (lambda f: (f / "metrics.json").write_text('{"unlearned": []}'), "no results of the target"),
    "wrong seed": (lambda f: _set(f / "run.json", seed="x"), "run.json is damaged: seed"),
    "stage without time": (lambda f: _set(f / "run.json", stages=[{"name": "a"}]), "run.json is damaged: stages.0"),
    "history is no list": (lambda f: (f / "unlearned/history.json").write_text("{}"), "history.json is damaged"),
    "curve with text": (lambda f: (f / "unlearned/curve.json").write_text('[{"step": "x"}]'), "curve.json is damaged"),
    "history without step": (
        lambda f: (f / "unlearned/history.json").write_text('[{"loss": 1}]'),
        "history.json is damaged: row 0 has no step",
    ),
    "cut tokens": (lambda f: _cut(f / "scores/target/tokens.parquet"), "cannot read.*tokens.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_clear_line(make_run: MakeRun, name: str) -> None:
    damage, message = BROKEN[name]
    folder = make_run()
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        read_run(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(("damage", "message"), [(_cut, "cannot read"), (_drop_column, "lacks .* generation$")])
def test_broken_generations(make_run: MakeRun, damage: object, message: str) -> None:
    folder = make_run()
    damage(folder / "scores/unlearned/generations.parquet")  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        read_run(folder).generations("unlearned")


def test_a_missing_folder_names_the_nearest(make_run: MakeRun) -> None:
    folder = make_run("npo-seed0")
    with pytest.raises(UserError, match=r"there is no folder .*npo-sed0, did you mean .*npo-seed0"):
        read_run(folder.with_name("npo-sed0"))
