"""Runs side by side."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unlearn.report.compare import compare, table
from unlearn.report.compared import Row, columns_of, compared, pool
from unlearn.report.folder import read_run
from unlearn.runtime.errors import UserError

MakeRun = Callable[..., Path]
NAN = math.nan


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(lambda x: np.std(x) > 1e-6))
def test_pooled_interval_is_students(values: list[float]) -> None:
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert pool(values) == pytest.approx((np.mean(values), *expected))


def test_pooled_by_hand() -> None:
    # mean 0.2, standard deviation 0.1, t(0.975; 2) = 4.3027, so +- 4.3027 * 0.1 / sqrt(3)
    assert pool([0.1, 0.2, 0.3]) == pytest.approx((0.2, 0.2 - 0.24841, 0.2 + 0.24841), abs=1e-5)
    assert pool([0.1, NAN, 0.3]) == pool([0.1, 0.3])
    one = pool([0.4])
    assert one[0] == 0.4
    assert math.isnan(one[1])
    assert math.isnan(one[2])
    assert all(math.isnan(end) for end in pool([NAN]))


def test_forget_quality_is_pooled_on_the_log_scale() -> None:
    value, low, high = pool([1e-2, 1e-4, 1e-6], logarithmic=True)
    reach = 4.3027 * 2 / math.sqrt(3)  # of log10 p: mean -4, standard deviation 2
    assert math.log10(value) == pytest.approx(-4)
    assert math.log10(low) == pytest.approx(-4 - reach, abs=1e-3)
    assert high == 1.0  # 10^(-4 + 4.97), and no p is above 1
    assert pool([0.0, 0.0], logarithmic=True)[0] < 1e-300


def _rows(*folders: Path) -> list[Row]:
    return compared([read_run(folder) for folder in folders])


def test_seeds_are_pooled_and_settings_named(make_run: MakeRun) -> None:
    npo = [make_run(f"npo{s}", seed=s, change={"forget/probability": p}) for s, p in enumerate((0.1, 0.2, 0.3))]
    strong = make_run("strong", method={"beta": 0.5})
    other = make_run("other", method={"_target_": "unlearn.methods.simnpo.SimNPO", "gamma": 0.1})
    rows = _rows(*npo, strong, other)
    assert [(row.kind, row.setting, row.seeds) for row in rows] == [
        ("original", "original model", (0, 1, 2)),
        ("control", "control model", (0, 1, 2)),
        ("pooled", "NPO beta=0.1", (0, 1, 2)),
        ("run", "NPO beta=0.1", (0,)),
        ("run", "NPO beta=0.1", (1,)),
        ("run", "NPO beta=0.1", (2,)),
        ("run", "NPO beta=0.5", (0,)),
        ("run", "SimNPO", (0,)),  # its own beta and gamma have nothing to be compared with
    ]
    pooled = rows[2]
    assert pooled.values["forget/probability"] == pytest.approx((0.2, 0.2 - 0.24841, 0.2 + 0.24841), abs=1e-5)
    assert rows[3].values["forget/probability"] == pytest.approx((0.1, 0.06, 0.14))  # the run's own bootstrap
    assert pooled.seconds == 35.25
    assert math.isnan(rows[0].seconds)
    assert rows[0].values["forget/probability"][0] == pytest.approx(0.93)
    assert rows[3].folder == str(npo[0])
    assert pooled.folder == ""


def test_a_repeated_seed_counts_once(make_run: MakeRun) -> None:
    first = make_run("first", seed=1, change={"model_utility": 0.5})
    again = make_run("again", seed=1, change={"model_utility": 0.9})
    second = make_run("second", seed=2, change={"model_utility": 0.7})
    kinds = [row.kind for row in _rows(first, again)]
    assert kinds == ["original", "control", "run", "run"]  # one seed: nothing to pool
    pooled = next(row for row in _rows(first, again, second) if row.kind == "pooled")
    assert pooled.seeds == (1, 2)
    assert pooled.values["model_utility"][0] == pytest.approx(0.6)


def test_other_tracker_same_setting_other_data_other_setting(make_run: MakeRun) -> None:
    one, two = make_run("one", seed=1), make_run("two", seed=2)
    config = (two / "config.yaml").read_text()
    (two / "config.yaml").write_text(
        config.replace("unlearn.report.tracking.NoTracker", "unlearn.report.tracking.Wandb")
    )
    assert [row.kind for row in _rows(one, two)].count("pooled") == 1
    (two / "config.yaml").write_text(config.replace("lr: 1.0e-05", "lr: 2.0e-05"))
    assert [row.setting for row in _rows(one, two) if row.kind == "run"] == ["NPO train.lr=1e-05", "NPO train.lr=2e-05"]


def test_components_go_by_their_chosen_names(make_run: MakeRun, localize: Callable[..., Any]) -> None:
    folders = [make_run(name) for name in "abc"]
    for folder, name, n in zip(folders, ("layers", "layers", "wagle"), (1, 2, 3), strict=True):
        localize(folder, {}, name, n=n)
    for folder, name in zip(folders, ("first-0.5", "last", "wagle"), strict=True):  # two of one class
        about = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(about | {"choices": {"localize": name}}))
    names = [row.setting for row in _rows(*folders) if row.kind == "run"]
    assert names == ["NPO localize=first-0.5", "NPO localize=last", "NPO localize=wagle"]


def test_tasks_are_kept_apart(make_run: MakeRun) -> None:
    rows = _rows(make_run("a"), make_run("b", split="forget05"))
    assert [(row.kind, row.task) for row in rows] == [
        (kind, f"authors {split}") for split in ("forget10", "forget05") for kind in ("original", "control", "run")
    ]


def test_files(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(f"npo{s}", seed=s, change={"model_utility": 0.6 + 0.1 * s}) for s in (0, 1)]
    bare = make_run("bare", method={"beta": 0.9}, has_control=False)
    out = tmp_path / "comparison"
    compare([*runs, bare, runs[0]], out)
    csv = pd.read_csv(out / "compare.csv")
    assert list(csv["kind"]) == ["original", "control", "pooled", "run", "run", "run"]
    pooled = csv[csv["kind"] == "pooled"].iloc[0]
    ends = stats.t.interval(0.95, 1, loc=0.65, scale=0.05)
    assert (pooled["model_utility_low"], pooled["model_utility_high"]) == pytest.approx(ends)
    assert math.isnan(csv.iloc[-1]["forget_quality"])
    assert csv.iloc[-1]["folder"] == str(bare)
    html, md = (out / "compare.html").read_text(), (out / "compare.md").read_text()
    shown = f"{ends[0]:.3f} to {ends[1]:.3f}"
    assert "0.650" in html
    assert shown in html
    assert f"0.650 [{shown}]" in md
    sorted_by = [float(value) for value in re.findall(r'data-value="([^"]+)"', html)]
    assert 'class="sortable"' in html
    assert any(value == pytest.approx(0.65) for value in sorted_by)
    assert 'src="http' not in html
    assert "nan [" not in md
    assert ">nan<" not in html
    for i in (1, 2):  # forget quality and forget probability against utility
        assert (out / f"figures/pareto-{i}.svg").exists()
        assert f"figures/pareto-{i}.svg" in md
    printed = capsys.readouterr().out
    assert "NPO beta=0.1" in printed
    assert shown in printed
    assert str(out / "compare.html") in printed


def test_without_any_control_model_the_plot_is_of_probability(make_run: MakeRun, tmp_path: Path) -> None:
    compare([make_run("a", has_control=False), make_run("b", has_control=False, method={"beta": 1})], tmp_path / "out")
    assert [file.name for file in (tmp_path / "out/figures").iterdir()] == ["pareto-1.svg"]
    assert "control model" not in (tmp_path / "out/compare.csv").read_text()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_console_table_fits(make_run: MakeRun, width: int) -> None:
    from rich.console import Console

    folders = make_run("a"), make_run("b", seed=1)
    rows, lines = _rows(*folders), columns_of([read_run(folder) for folder in folders])
    console = Console(width=width)
    made = table(rows, list(lines.values()), width)
    assert len(made.columns) >= 3
    if width >= 80:
        assert console.measure(made).maximum <= width


def test_hostile_names_are_text(make_run: MakeRun, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    compare([make_run("a", method={"beta": name}), make_run("b")], tmp_path / "out")
    html, md = (tmp_path / "out/compare.html").read_text(), (tmp_path / "out/compare.md").read_text()
    assert name not in html
    assert name not in md
    assert "&lt;script&gt;alert(1)" in html


def test_errors(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        compare([], tmp_path / "out")
    broken: Any = make_run()
    (broken / "run.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        compare([broken], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_leaks_are_columns_and_pooled_over_seeds(
    make_run: MakeRun, attack: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run(f"npo{s}", seed=s) for s in (0, 1)]
    leaks = [attack(folder, only=only) for folder, only in zip(runs, (("sample",), ("sample",)), strict=True)]
    bare = make_run("bare", method={"beta": 0.9})
    _set_worst(runs[1], 0.9)
    compare([*runs, bare], tmp_path / "out")
    csv = pd.read_csv(tmp_path / "out/compare.csv").set_index(["kind", "folder"])
    one: Any = csv.loc[("run", str(runs[0]))]
    worst = leaks[0].overall
    assert (one["worst/leak"], one["worst/leak_low"], one["worst/leak_high"]) == pytest.approx(
        (0.5, worst.low, worst.high)
    )
    assert one["black/leak"] == pytest.approx(0.5)
    assert one["verdict"] == worst.verdict
    assert "grey/leak" not in csv
    pooled = csv.loc["pooled"].iloc[0]
    ends = stats.t.interval(0.95, 1, loc=0.7, scale=0.2)
    assert (pooled["worst/leak"], pooled["worst/leak_low"], pooled["worst/leak_high"]) == pytest.approx((0.7, *ends))
    assert pooled["verdict"] == "inconclusive"  # from -1.8 to 3.2
    assert math.isnan(csv["worst/leak"][("run", str(bare))])
    html, md = (tmp_path / "out/compare.html").read_text(), (tmp_path / "out/compare.md").read_text()
    for text in (html, md):
        assert "Worst leak, black-box" in text
        assert "verdict" in text
        assert worst.verdict in text
        assert "attacked in different ways" not in text
    printed = capsys.readouterr().out
    assert "worst" in printed
    assert f"{worst.low:.3f} to {worst.high:.3f}" in printed
    assert worst.verdict in printed
    assert (tmp_path / "out/figures/pareto-3.svg").exists()


def _set_worst(folder: Path, leak: float) -> None:
    path = folder / "attacks/leak.json"
    content = json.loads(path.read_text())
    content["worst"][-1]["leak"] = leak
    path.write_text(json.dumps(content))


def test_leaks_of_different_attacks_are_not_pooled(
    make_run: MakeRun, attack: Callable[..., Any], tmp_path: Path
) -> None:
    runs = [make_run(f"npo{s}", seed=s) for s in (0, 1)]
    for folder, only in zip(runs, (("sample",), ("prompts",)), strict=True):
        attack(folder, only=only)
    rows = _rows(*runs)
    assert [("worst/leak" in row.values, bool(row.verdict)) for row in rows if row.kind == "run"] == [(True, True)] * 2
    pooled = next(row for row in rows if row.kind == "pooled")
    assert "worst/leak" not in pooled.values
    assert pooled.verdict == ""
    compare(runs, tmp_path / "out")
    assert "attacked in different ways" in (tmp_path / "out/compare.md").read_text()
    assert not (tmp_path / "out/figures/pareto-3.svg").exists()


def test_attacks_alone_are_rows_of_their_own(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folders = [make_run("a"), make_run("b"), make_run("npo")]
    for folder in folders:
        attack(folder, only=("sample",))
    for folder in folders[:2]:
        (folder / "metrics.json").unlink()
    rows = [(row.kind, row.setting) for row in _rows(*folders)]
    assert rows == [
        *(("original", "original model"), ("control", "control model")),
        *(("run", "attack folder=a"), ("run", "attack folder=b"), ("run", "NPO")),
    ]
