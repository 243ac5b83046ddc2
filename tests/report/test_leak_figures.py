"""The figures of the attacks: which are drawn, and that they show the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.record import AttackRun, Record
from unlearn.report.attacks_folder import Attacks, read_attacks
from unlearn.report.leak_figures import FEWEST, MOST, bars, budgets, figures
from unlearn.report.style import COLOURS, to_svg

MakeRun = Callable[..., Path]
Attack = Callable[..., Any]


def _lines(axes: Any, label: str) -> np.ndarray:
    return next(line.get_ydata() for line in axes.lines if line.get_label() == label)


def test_what_is_drawn(attacks: Attacks) -> None:
    drawn = figures(attacks)
    assert list(drawn) == ["attack-leaks", "attack-budgets", "attack-lens-lens", "attack-lens-probe"]
    assert all(to_svg(one.figure).startswith(b"<?xml") and one.words for one in drawn.values())
    assert to_svg(figures(attacks)["attack-leaks"].figure) == to_svg(drawn["attack-leaks"].figure)


def test_bars(attacks: Attacks) -> None:
    left, right = bars(attacks).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == [
        "No attack", "none", "Black-box", "sample", "prompts", "worst case", "Grey-box", "detach", "quantize",
        "White-box", "relearn", "lens", "ruin", "worst case", "All threat levels", "worst case",
    ]  # fmt: skip
    patches: list[Any] = list(left.patches)
    widths = {names[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in patches}
    assert widths == pytest.approx({"none": 0.0, "sample": 0.5, "prompts": 0.25, "relearn": 8 / 11, "lens": 0.5})
    told = {names[round(text.get_position()[1])]: text.get_text() for text in left.texts}
    assert told["ruin"] == "uninformative"
    assert told["detach"] == "skipped: no adapter"
    assert len(told) == 3
    y = names.index("relearn")
    lines: list[Any] = list(right.lines)
    dots = [line for line in lines if line.get_marker() == "o" and list(line.get_ydata()) == [y]]
    assert [(dot.get_xdata()[0], dot.get_color()) for dot in dots] == [
        (1.0, COLOURS["original"]), (0.75, COLOURS["unlearned"]), (pytest.approx(1 / 12), COLOURS["control"]),
    ]  # fmt: skip


def test_leaks_outside_the_axis_are_marked(make_run: MakeRun, attack: Attack) -> None:
    def found(known: list[float]) -> AttackRun:
        return AttackRun(AttackResult([Outcome("one", np.array(known * 3))]))

    u, r = found([0.0, 0.0, 0.0, 0.2]), found([0.9, 0.9, 0.9, 0.7])
    made = [
        Record(name, "black", "f", "", {"original": found([1.0] * 4), "unlearned": u, "control": r})
        for name in ("none", "x")
    ]
    folder = make_run()
    attack(folder, made)
    left = bars(read_attacks(folder / "attacks")).axes[0]
    assert left.get_xlim() == (FEWEST, MOST)
    patches: list[Any] = list(left.patches)
    assert min(bar.get_width() for bar in patches) == FEWEST  # it is -5.3
    markers = [line.get_marker() for line in left.lines]
    assert markers.count("<") >= 2
    assert ">" not in markers


def test_budgets(attacks: Attacks) -> None:
    figure = budgets(attacks.leaks, "control")
    panels = [axes for axes in figure.axes if axes.lines]
    shown, below = panels[1], panels[3]  # the second column
    assert shown.get_title() == "relearn"
    assert list(_lines(shown, "unlearned")) == pytest.approx([2 / 12, 9 / 12])
    assert list(_lines(shown, "control")) == pytest.approx([0, 1 / 12])
    line: Any = below.lines[0]
    assert list(line.get_xdata()) == [5, 10]
    assert list(line.get_ydata()) == pytest.approx([2 / 12, 8 / 11])
    assert "up to 10 forget rows" in below.get_xlabel().replace("\n", " ")
    assert panels[0].get_xscale() == "log"
    assert shown.get_xscale() == "linear"  # 1 to 16, 5 to 10
