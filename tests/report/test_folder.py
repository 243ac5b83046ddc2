"""Reading run folders, whole and broken."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from unlearn.report.folder import read_run
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

MakeRun = Callable[..., Path]
UP = "model.layers.0.mlp.up_proj.weight"


def test_reads_everything(make_run: MakeRun) -> None:
    run = read_run(make_run(seed=3, change={"forget/probability": 0.25}))
    assert run.models == ["original", "unlearned", "control"]
    found = run.result("unlearned", "forget/probability")
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (0.25, 0.21, 0.29, 40)
    assert run.about.seed == 3
    assert str(run.about.task) == "authors forget10"
    assert run.about.stages[1].seconds == 10.25
    assert run.about.stages[0].cached
    assert run.aims == {"forget": "forget", "retain": "retain", "world": "utility", "holdout": "holdout"}
    assert [point["step"] for point in run.curve] == [10, 20, 30]
    assert len(run.history) == 40
    assert run.history[0]["loss"] == 2.0
    assert run.method == "NPO"
    assert run.config["method"]["beta"] == 0.1
    assert run.generations("original")["generation"].iloc[0] == "original says forget 0"


def test_the_logs_of_all_requests_follow_one_another(make_run: MakeRun) -> None:
    """Eleven requests, so that the tenth must not come before the second; the eleventh is the 40 steps of the run."""
    folder = make_run()
    for number in range(1, 11):
        earlier = folder / f"requests/{number}/unlearned"
        earlier.mkdir(parents=True)
        (earlier / "history.json").write_text(json.dumps([{"step": s, "loss": 10.0 * number + s} for s in (1, 2)]))
        (earlier / "curve.json").write_text(json.dumps([{"step": s, "known": number + s / 2} for s in (0, 1, 2)]))
    run = read_run(folder)
    assert run.begins == [2.0 * number for number in range(1, 11)]
    assert [row["step"] for row in run.history] == list(range(1, 61))
    assert [row["loss"] for row in run.history][:4] == [11, 12, 21, 22]
    assert run.history[20]["loss"] == 2.0
    assert [(point["step"], point.get("known")) for point in run.curve[:5]] == [
        (0, 1.0),
        (1, 1.5),
        (2, 2.0),
        (3, 2.5),
        (4, 3.0),
    ]
    assert [point["step"] for point in run.curve[-3:]] == [30, 40, 50]


def test_the_chosen_name_of_the_method_wins(make_run: MakeRun) -> None:
    folder = make_run()
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"choices": {"method": "npo_variant"}}))
    assert read_run(folder).method == "npo_variant"


def test_what_may_be_missing(make_run: MakeRun) -> None:
    folder = make_run(has_control=False, change={"forget/probability": None})
    shutil.rmtree(folder / "unlearned")
    shutil.rmtree(folder / "scores")
    run = read_run(folder)
    assert run.models == ["original", "unlearned"]
    assert run.result("control", "model_utility") is None
    undefined = run.result("unlearned", "forget/probability")
    assert undefined is not None
    assert math.isnan(undefined.value)
    assert math.isnan(undefined.low)
    assert not run.curve
    assert not run.history
    assert run.generations("original").empty
    assert run.aims["world"] == "utility"
    assert run.aims["forget"] == "forget"


def test_a_localization(make_run: MakeRun, localize: Callable[..., Any]) -> None:
    folder = make_run()
    assert read_run(folder).localization is None
    assert read_run(folder).localizer == ""
    probes = pd.DataFrame({"layer": [0], "prompt": ["name"], "accuracy": [0.5], "control": [0.3], "more": [1]})
    removal = pd.DataFrame({"fraction": [0.0], "forget": [0.9], "retain": [0.8]})
    chart = Chart("line", "layer", ("accuracy",), baseline="control")
    tables = {"probes": Explained(probes, "Probes", "What is read.", chart), "removal": Explained(removal)}
    localize(folder, {UP: [0, 1, 2]}, "snip", numbers={"gamma": 0.5, "undefined": None}, tables=tables)
    run = read_run(folder)
    found = run.localization
    assert found is not None
    assert run.localizer == "snip"
    assert found.localizer == "Snip"
    assert (found.selected, found.total, found.fraction) == (3, 20, 0.15)
    assert found.numbers["gamma"] == 0.5
    assert math.isnan(found.numbers["undefined"])
    assert [(s.layer, s.type, s.selected, s.total) for s in found.shares] == [
        (None, "embed", 0, 6), (0, "up", 3, 10), (2, "down", 0, 4),
    ]  # fmt: skip
    explained = found.explained()
    assert list(explained) == ["probes", "removal"]
    assert explained["probes"].chart == chart
    pd.testing.assert_frame_equal(explained["probes"].frame, probes)
    assert explained["removal"].chart is None


def test_the_localizers_class_where_none_was_chosen_by_name(make_run: MakeRun, localize: Callable[..., Any]) -> None:
    folder = make_run()
    localize(folder, {UP: [0]}, "snip")
    _set(folder / "run.json", choices={})
    assert read_run(folder).localizer == "Snip"


EDGES = Explained(
    pd.DataFrame({"source": ["a"], "target": ["b"], "score": [1.0]}),
    "Edges",
    chart=Chart("ranking", "source", ("target",), "score"),
)
LOCALIZATION: dict[str, tuple[Callable[[Path], object], str]] = {
    "no localize.json": (lambda f: (f / "localize.json").unlink(), "localize.json"),
    "cut": (lambda f: _cut(f / "localize.json"), "localize.json"),
    "no fraction": (lambda f: (f / "localize.json").write_text('{"localizer": "x"}'), "is damaged: selected"),
    "share without type": (
        lambda f: _set(f / "localize.json", shares=[{"layer": 0, "selected": 1, "total": 2}]),
        "is damaged: shares.0.type",
    ),
    "number in words": (lambda f: _set(f / "localize.json", numbers={"gamma": "x"}), "is damaged: numbers.gamma"),
    "cut table": (lambda f: _cut(f / "edges.parquet"), "cannot read the table .*edges.parquet"),
    "table without scores": (
        lambda f: _without_score(f / "edges.parquet"),
        r"cannot read the table .*edges.parquet: the table 'Edges' lacks the column\(s\) score",
    ),
}


@pytest.mark.parametrize("name", LOCALIZATION)
def test_a_broken_localization_is_one_clear_line(make_run: MakeRun, localize: Callable[..., Any], name: str) -> None:
    damage, message = LOCALIZATION[name]
    folder = make_run()
    localize(folder, {UP: [0]}, tables={"edges": EDGES})
    damage(folder / "localize")
    with pytest.raises(UserError, match=message):
        _explained(folder)


def _explained(folder: Path) -> dict[str, Explained]:
    localization = read_run(folder).localization
    assert localization is not None
    return localization.explained()


def _without_score(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["score"]), path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _drop_column(path: Path) -> None:
    pd.read_parquet(path).drop(columns=["generation"]).to_parquet(path)


def _set(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.yaml").unlink(), "not a run folder"),
    "no metrics": (lambda f: (f / "metrics.json").unlink(), "not finished.*metrics.json"),
    "no run.json": (lambda f: (f / "run.json").unlink(), "not finished.*run.json"),
    "cut metrics": (lambda f: _cut(f / "metrics.json"), "metrics.json"),
    "cut config": (lambda f: (f / "config.yaml").write_text("method: {a: [1"), "config.yaml"),
    "config without keys": (lambda f: (f / "config.yaml").write_text("- 1\n"), "config.yaml.*no configuration"),
    "binary metrics": (lambda f: (f / "metrics.json").write_bytes(b"\xff\xfe\x00"), "metrics.json"),
    "result without value": (
        lambda f: _set(f / "metrics.json", original=[{"name": "a", "probe": "", "low": 0, "high": 1, "n": 1}]),
        r"metrics.json is damaged: original.0.value",
    ),
    "no original": (lambda f: (f / "metrics.json").write_text('{"unlearned": []}'), "no results of the original"),
    "wrong seed": (lambda f: _set(f / "run.json", seed="x"), "run.json is damaged: seed"),
    "stage without time": (lambda f: _set(f / "run.json", stages=[{"name": "a"}]), "run.json is damaged: stages.0"),
    "history is no list": (lambda f: (f / "unlearned/history.json").write_text("{}"), "history.json is damaged"),
    "curve with text": (lambda f: (f / "unlearned/curve.json").write_text('[{"step": "x"}]'), "curve.json is damaged"),
    "history without step": (
        lambda f: (f / "unlearned/history.json").write_text('[{"loss": 1}]'),
        "history.json is damaged: row 0 has no step",
    ),
    "cut tokens": (lambda f: _cut(f / "scores/original/tokens.parquet"), "cannot read.*tokens.parquet"),
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


def test_attacks(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folder = make_run()
    assert read_run(folder).attacks is None
    assert read_run(folder).leaks is None
    attack(folder, seeds=[3, 4])
    run = read_run(folder)
    found = run.attacks
    assert found is not None
    assert run.leaks is found.leaks
    assert run.title == "NPO on authors forget10"
    assert [row.attack for row in found.leaks.rows] == found.names
    assert found.names[:2] == ["none", "prompts"]
    assert (found.answer_metric, found.seeds, found.leaks.baseline, found.models) == ("match", (3, 4), "control", {})
    relearn = found.run_of("relearn", "unlearned")
    assert relearn is not None
    assert len(relearn.result.outcomes) == 4
    assert found.run_of("relearn", "placebo") is None
    assert [item.index for item in found.items()] == list(range(12))
    assert len(found.items("attacker_items")) == 3


def test_an_attack_alone_is_a_run(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folder = make_run()
    attack(folder)
    (folder / "metrics.json").unlink()
    for unlearned in (True, False):  # attacked before it was scored, or a model from elsewhere
        run = read_run(folder)
        assert not run.results
        assert run.leaks
        assert run.title == "attack on authors forget10"
        assert bool(run.history) is unlearned
        shutil.rmtree(folder / "unlearned", ignore_errors=True)


BROKEN_ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: _cut(f / "leak.json"), "cannot read .*leak.json"),
    "no rows": (lambda f: (f / "leak.json").write_text('{"rows": 1}'), "leak.json is damaged: rows"),
    "no about": (lambda f: _set(f / "leak.json", about={}), "leak.json is damaged: answer_metric"),
    "no items": (lambda f: (f / "items.json").unlink(), "there is no file .*items.json"),
    "item without side": (lambda f: (f / "items.json").write_text('[{"index": 1}]'), "items.json is damaged: 0.side"),
    "cut outcomes": (lambda f: _cut(f / "relearn/unlearned/outcomes.parquet"), "cannot read the attack in .*relearn"),
}


@pytest.mark.parametrize("name", BROKEN_ATTACKS)
def test_broken_attacks_are_one_clear_line(make_run: MakeRun, attack: Callable[..., Any], name: str) -> None:
    from unlearn.report.page import write_report

    damage, message = BROKEN_ATTACKS[name]
    folder = make_run()
    attack(folder, only=("relearn",))
    damage(folder / "attacks")
    with pytest.raises(UserError, match=message):
        write_report(folder)
    assert not (folder / "report.html").exists()
