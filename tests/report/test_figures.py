"""What the figures draw."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.report import figures
from unlearn.report.folder import read_run
from unlearn.report.pareto import Point, pareto, pareto_front
from unlearn.report.style import to_svg
from unlearn.runtime.explained import Chart, Explained

COORDINATE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0, float("nan")])

MakeRun = Callable[..., Path]


@given(st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12))
def test_pareto_front_against_brute_force(points: list[tuple[float, float]]) -> None:
    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    defined = [i for i, point in enumerate(points) if not np.isnan(point).any()]
    best = {i for i in defined if not any(beats(points[j], points[i]) for j in defined)}
    front = pareto_front(points)
    assert set(front) == best
    assert len(front) == len(best)
    first = [points[i][0] for i in front]
    assert first == sorted(first, reverse=True)


def _lines(axes: Any) -> dict[str, Any]:
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def test_no_tradeoff_where_no_metric_is_an_axis(make_run: MakeRun, recwarn: pytest.WarningsRecorder) -> None:
    run = read_run(make_run())
    assert "tradeoff" in figures.figures(run)
    assert "tradeoff" not in figures.figures(replace(run, readings=()))
    one = tuple(reading for reading in run.readings if reading.name == "probability")
    figures.tradeoff(replace(run, readings=tuple(replace(reading, axis="forgetting") for reading in one)))
    assert not [warning for warning in recwarn if "No artists with labels" in str(warning.message)]


def test_tradeoff_runs_from_the_original_to_the_unlearned_model(make_run: MakeRun) -> None:
    run = read_run(make_run())
    over_steps: Any
    over_steps, plane, quality = figures.tradeoff(run).axes
    drawn = _lines(over_steps)["forget probability"]
    assert drawn.tolist() == [[0, 0.93], [10, 0.9 - 0.2], [20, 0.9 - 0.4], [30, 0.9 - 0.02 * 30], [40, 0.21]]
    dashed = {
        line.get_xydata()[0, 1] for line in over_steps.lines if line.get_linestyle() == "--" and line.get_xydata().size
    }
    assert dashed == {0.15, 0.9}  # the control model's probability on the forget set, and on the two others
    marks = _lines(plane)
    assert marks["original model"].tolist() == [[0.93, 0.92]]
    assert marks["control model"].tolist() == [[0.15, 0.9]]
    assert marks["unlearned, step 40"].tolist() == [[0.21, 0.81]]
    assert _lines(quality)["forget quality"][[0, -1]].tolist() == [[0, 3.2e-13], [40, 0.37]]
    assert quality.get_yscale() == "log"


def test_all_requests_are_drawn_one_after_the_other(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "requests/1").mkdir(parents=True)
    shutil.copytree(folder / "unlearned", folder / "requests/1/unlearned")
    run = read_run(folder)
    over_steps, plane, quality = figures.tradeoff(run).axes
    drawn = _lines(over_steps)["forget probability"]
    assert drawn[:, 0].tolist() == [0, 10, 20, 30, 50, 60, 70, 80]
    assert drawn[4].tolist() == [50, 0.9 - 0.2]
    assert "unlearned, step 80" in _lines(plane)
    for axes in (over_steps, quality, *figures.losses(run).axes):
        assert _lines(axes)["next request"][:, 0].tolist() == [40, 40]
    left, _ = figures.losses(run).axes
    assert _lines(left)["loss (minimised)"][[0, 39, 40, 79]].tolist() == [[1, 2], [40, 0.05], [41, 2], [80, 0.05]]
    assert "next request" not in _lines(figures.losses(read_run(make_run("other"))).axes[0])


def test_tradeoff_without_points_or_control_model(make_run: MakeRun) -> None:
    folder = make_run(has_control=False)
    (folder / "unlearned/curve.json").unlink()
    over_steps, plane = figures.tradeoff(read_run(folder)).axes
    assert _lines(over_steps)["model utility"] == pytest.approx(np.array([[0, 0.82], [40, 0.71]]))
    assert "control model" not in _lines(plane)


def test_probes_are_bars_with_intervals(make_run: MakeRun) -> None:
    run = read_run(make_run())
    figure = figures.probes(run)
    assert [axes.get_title() for axes in figure.axes] == ["Probability", "ROUGE-L recall", "Truth ratio", "Fact recall"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["forget", "retain", "world"]  # no holdout
    bars: list[Any] = [container for container in axes.containers if hasattr(container, "patches")]
    heights = [[bar.get_height() for bar in container.patches] for container in bars]
    assert heights == [[0.93, 0.92, 0.92], [0.21, 0.81, 0.81], [0.15, 0.9, 0.9]]
    segments = bars[1].errorbar.lines[2][0].get_segments()
    assert np.allclose([segment[:, 1] for segment in segments], [[0.17, 0.25], [0.77, 0.85], [0.77, 0.85]])


def test_losses_by_part(make_run: MakeRun) -> None:
    left, right = figures.losses(read_run(make_run())).axes
    drawn = _lines(left)
    assert set(drawn) == {"loss (minimised)", "forget", "retain"}
    assert np.allclose(drawn["forget"][:, 1], [1.5 / (i + 1) for i in range(40)])
    assert np.allclose(right.lines[0].get_ydata(), [3.0 / (i + 1) for i in range(40)])


def test_what_method_and_update_say_has_panels_of_its_own(make_run: MakeRun) -> None:
    run = read_run(make_run())
    told = [{**row, "method/size": float(i), "update/angle": -float(i)} for i, row in enumerate(run.history)]
    left, _, size, angle = figures.losses(replace(run, history=told)).axes
    assert set(_lines(left)) == {"loss (minimised)", "forget", "retain"}
    assert (size.get_title(), angle.get_title()) == ("method: size", "update: angle")
    assert np.allclose(size.lines[0].get_ydata(), range(40))
    assert np.allclose(angle.lines[0].get_ydata(), range(0, -40, -1))


def test_only_what_there_is_data_for(make_run: MakeRun) -> None:
    folder = make_run()
    assert list(figures.figures(read_run(folder))) == ["tradeoff", "probes", "losses"]
    shutil.rmtree(folder / "unlearned")
    assert list(figures.figures(read_run(folder))) == ["probes"]


def test_figures_of_the_localization_follow_its_numbers(make_run: MakeRun, localize: Callable[..., Any]) -> None:
    """The numbers of a localization are the last that a report writes before its figures."""
    folder = make_run()
    scores = pd.DataFrame({"layer": [0], "kind": ["mlp"], "score": [1.0], "selected": [True], "parameters": [5]})
    localize(
        folder,
        {},
        "snip",
        tables={"blocks": Explained(scores, chart=Chart("bar", "layer", ("score",)))},
    )
    drawn = list(figures.figures(read_run(folder)))
    assert drawn == ["localize-selected", "localize-blocks", "tradeoff", "probes", "losses"]


def test_undefined_numbers_are_left_out(make_run: MakeRun) -> None:
    run = read_run(make_run(change={"forget/probability": None, "retain/probability": None, "forget_quality": None}))
    for drawn in figures.figures(run).values():
        assert to_svg(drawn.figure).startswith(b"<?xml")


def test_the_same_figure_is_the_same_file(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert to_svg(figures.losses(run)) == to_svg(figures.losses(run))


def _at(kind: str, utility: float, forgetting: float) -> Point:
    return Point(
        kind, f"{kind} {utility}", (utility, utility - 0.1, utility + 0.1), (forgetting, forgetting, forgetting)
    )


def test_pareto_plot_of_forget_quality() -> None:
    points = [
        _at("run", 0.6, 0.5),
        _at("run", 0.7, 1e-3),
        _at("run", 0.5, 0.1),
        _at("run", 0.1, 0.0),
        _at("original", 0.9, 1e-20),
    ]
    axes = pareto(points, "forget_quality", "model_utility", "a task", quality=True).axes[0]
    assert _lines(axes)["Pareto front"].tolist() == [[0.7, 1e-3], [0.6, 0.5]]  # the original is no part of it
    assert axes.get_yscale() == "log"
    assert _lines(axes)["original 0.9"].tolist() == [[0.9, 1e-20]]
    lowest = min(points[0, 1] for points in _lines(axes).values() if len(points) == 1)
    assert 0 < lowest < 1e-20  # p = 0 is below all others, not lost


def test_pareto_plot_of_probability_falls_upwards() -> None:
    points = [_at("run", 0.6, 0.5), _at("run", 0.7, 0.6), _at("run", 0.5, 0.55)]
    axes = pareto(points, "forget/probability", "model_utility", "a task", quality=False).axes[0]
    assert _lines(axes)["Pareto front"].tolist() == [[0.7, 0.6], [0.6, 0.5]]
    assert axes.yaxis_inverted()
