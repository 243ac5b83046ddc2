"""The charts of single attacks' tables: that they show the numbers, and bear what is missing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from unlearn.metrics.statistics import auc
from unlearn.report import charts
from unlearn.report.style import COLOURS, to_svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

NAN = np.nan
TRIO = ("original", "unlearned", "control")


ATTACKS = {  # that make each table
    "probe": "internals.probe",
    "lens": "internals.lens",
    "buckets": "weights.quantize",
    "speed": "weights.relearn_speed",
    "patch": "internals.patch",
    "abliterate": "internals.abliterate",
    "dialogue": "prompts.dialogue",
    "rings": "prompts.dual_use",
    "ladder": "prompts.ununlearn",
    "samples": "prompts.sample",
    "hops": "prompts.multihop",
    "refusals": "prompts.refusals",
    "confidence": "prompts.confidence",
    "membership": "prompts.membership",
    "sleek": "prompts.sleek",
}


def draw(name: str, tables: Mapping[str, pd.DataFrame], *more: Any) -> Figure:
    """The figure of a table as its attack explains it."""
    explain = import_module(f"unlearn.attacks.{ATTACKS[name]}")._explained
    figure = charts.drawn({role: explain(table, *more) for role, table in tables.items()}, name)
    assert figure
    assert figure.title
    assert figure.words
    return figure.figure


def _line(axes: Any, label: str) -> tuple[list[float], list[float]]:
    line = next(line for line in axes.lines if line.get_label() == label)
    return list(line.get_xdata()), list(line.get_ydata())


def _heights(axes: Any) -> dict[str, list[float]]:
    """By model, the bars from left to right."""
    found = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert axes.get_xlim() == (-0.5, len(axes.get_xticks()) - 0.5)
    return found


def _ticks(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def test_probes_of_three_models() -> None:
    tables: Any = {
        role: pd.DataFrame({"layer": [1, 0], "accuracy": [top, 0.3], "control": [0.25, 0.26]})
        for role, top in (("original", 0.9), ("unlearned", 0.8), ("placebo", 0.4))
    }
    axes = draw("probe", tables).axes[0]
    assert _line(axes, "unlearned")[1] == [0.3, 0.8]
    assert _line(axes, "placebo items")[1] == [0.3, 0.4]
    assert _line(axes, "original, shuffled labels")[1] == [0.26, 0.25]


def test_the_lens_is_on_one_scale_for_all_models() -> None:
    def table(top: float) -> pd.DataFrame:
        return pd.DataFrame({"layer": [0, 1, 0, 1], "stream": ["block"] * 2 + ["mlp"] * 2, "score": [0.1, top, 0, NAN]})

    figure: Figure = draw("lens", {"original": table(0.8), "unlearned": table(0.4)})
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == ["original", "unlearned"]
    image: Any = panels[0].images[0].get_array()
    first = np.asarray(image.filled(-1))
    np.testing.assert_allclose(first, [[0.1, 0.8], [0.0, -1.0]])
    assert all(axes.images[0].get_clim() == (0, 0.8) for axes in panels)
    assert [text.get_text() for text in panels[1].texts] == [".10", ".40", ".00", ""]
    assert draw("lens", {"original": table(0.0).assign(score=0.0)})  # nothing to be read anywhere


def test_buckets_by_layer_and_format() -> None:
    rows = [{"format": f, "layer": layer, "moved": 0.1 * i, "steps": 0.2 + i} for i, (f, layer) in enumerate(
        [("int8", 0), ("int8", 1), ("int8", -1), ("nf4", 0), ("nf4", 1), ("nf4", -1)]
    )]  # fmt: skip
    moved, steps = draw("buckets", {"unlearned": pd.DataFrame(rows)}).axes
    assert _line(moved, "nf4")[1] == pytest.approx([0.3, 0.4, 0.5])
    assert _ticks(moved) == ["0", "1", "other"]
    assert np.asarray(steps.lines[0].get_ydata()).tolist() == pytest.approx([0.2, 1.2, 2.2])


def test_relearning_curves() -> None:
    def table(*nll: float) -> pd.DataFrame:
        return pd.DataFrame({"step": [0, 2, 4], "nll": nll, "reached": [0.0, 0.25, 1.0]})

    loss, learned = draw("speed", {"original": table(0.1, 0.05, 0.01), "unlearned": table(4.0, 2.0, np.inf)}).axes
    assert _line(loss, "original") == ([0, 2, 4], [0.1, 0.05, 0.01])
    assert _line(loss, "unlearned")[1][:2] == [4.0, 2.0]
    assert np.isnan(_line(loss, "unlearned")[1][2])  # it diverged
    assert _line(learned, "unlearned")[1] == [0.0, 0.25, 1.0]
    low, high = loss.get_ylim()
    assert loss.get_yscale() == "log"
    assert 0 < low < 0.01
    assert 4 < high < 10
    near = draw("speed", {"unlearned": table(2.0, 1.0, 0.5)}).axes[0]
    assert near.get_yscale() == "linear"
    assert near.get_ylim()[0] == 0


def test_patching_has_a_panel_for_each_way() -> None:
    def table(*scores: float) -> pd.DataFrame:
        return pd.DataFrame({"layer": [0, 1, 0, 1], "direction": ["into"] * 2 + ["out of"] * 2, "score": scores})

    into, out = draw("patch", {"original": table(1, 1, 1, 1), "control": table(0.1, 0.2, 0.3, 0.4)}).axes
    assert _line(into, "control") == ([0, 1], [0.1, 0.2])
    assert _line(out, "control")[1] == [0.3, 0.4]
    assert into.get_title() != out.get_title()


def test_ablations_have_a_panel_for_each_contrast() -> None:
    table = pd.DataFrame({"contrast": ["retain", "retain", "text"], "layer": [3, 0, 3], "attacker": [0.3, 0.1, 0.5]})
    retain, text = draw("abliterate", {"original": table[:2], "unlearned": table}).axes  # one has only one contrast
    assert _line(retain, "unlearned") == ([0, 3], [0.1, 0.3])
    assert _line(text, "unlearned") == ([3], [0.5])
    assert len(text.lines) == 1


def test_a_conversation_by_turn() -> None:
    known = dict(zip(TRIO, ([1.0, 0.9], [0.0, NAN], [0.0, 0.1]), strict=True))
    tables: Any = {role: pd.DataFrame({"turn": [1, 10], "known": values}) for role, values in known.items()}
    (axes,) = draw("dialogue", tables).axes
    assert _line(axes, "original") == ([1, 10], [1.0, 0.9])
    assert _line(axes, "control")[1] == [0.0, 0.1]
    assert [line.get_color() for line in axes.lines] == [COLOURS[m] for m in ("original", "unlearned", "control")]


def test_rings_by_distance() -> None:
    table = pd.DataFrame({"ring": ["forget", "field"], "distance": [0, 3], "n": [36, 40], "known": [0.1, 0.7]})
    (axes,) = draw("rings", {"unlearned": table, "control": table[:1]}).axes
    assert _line(axes, "unlearned") == ([0, 3], [0.1, 0.7])
    assert _line(axes, "control") == ([0], [0.1])
    assert _ticks(axes) == ["forget\nn = 36", "field\nn = 40"]


def test_the_ladder_with_its_control() -> None:
    rows = [
        ("C0", "plain", 0.0, ""),
        ("C1", "n=1", 0.2, "C1 n=1"),
        ("Cx", "C1 n=1", 0.1, ""),
        ("C1", "n=4", 0.6, "C1 n=4"),
        ("Cx", "C1 n=4", 0.05, ""),
        ("C4", "letter", 0.4, "C1 n=1"),
        ("C4", "options", -0.3, "C1 n=4"),
    ]
    table = pd.DataFrame(rows, columns=["level", "size", "known", "control"])
    figure = draw("ladder", {"unlearned": table, "control": table[table["level"] != "C4"]})
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["C0", "C1", "C4"]
    plain, facts, hint = figure.axes
    hollow = "unlearned, context of that length"
    assert _line(facts, "unlearned")[1] == [0.2, 0.6]
    assert _line(facts, hollow)[1] == [0.1, 0.05]
    assert _line(hint, "unlearned")[1] == [0.4, -0.3]
    assert _line(hint, hollow)[1] == [0.1, 0.05]
    assert _ticks(facts) == ["n=1", "n=4"]
    assert _ticks(hint) == ["letter", "options"]
    assert np.isnan(_line(plain, hollow)[1]).all()
    assert "control" not in [line.get_label() for line in hint.lines]
    assert facts.lines[0].get_linestyle() == "-"
    assert hint.lines[0].get_linestyle() == "None"  # those have no order
    assert all(axes.get_ylim()[0] < -0.3 and axes.get_ylim()[1] > 1 for axes in figure.axes)


def test_samples_are_in_descending_order() -> None:
    table = pd.DataFrame({"mean": [0.1, 0.9, 0.5, 0.0], "expectation": [0.3, 1.0, 0.8, 0.2]})
    axes = draw("samples", {"unlearned": table}).axes[0]
    assert _line(axes, "unlearned") == ([0.125, 0.375, 0.625, 0.875], [0.9, 0.5, 0.1, 0.0])
    assert _line(axes, "unlearned, upper bound")[1] == [1.0, 0.8, 0.3, 0.2]


def test_hops() -> None:
    table = pd.DataFrame({"hop_1": [1, 1, 0, 0.5], "hop_2": [1, 0, 1, 1], "composed": [1, 0, 0, 0]}, dtype=float)
    three = table.assign(hops=3, hop_3=1.0)[:1]
    table = table.assign(hops=2)
    assert _heights(draw("hops", {"original": pd.concat([table, three])}).axes[1])["original"] == [1, 1, 1, 1, 1]
    (axes,) = draw("hops", {"original": table, "unlearned": table.assign(hop_1=0.0)}).axes
    found = _heights(axes)
    assert found["original"] == [0.625, 0.75, 0.25, 0.5]  # of the composed ones, the first and the last have both hops
    assert found["unlearned"][:3] == [0, 0.75, 0.25]
    assert np.isnan(found["unlearned"][3])
    assert [text.get_text() for text in axes.texts] == [".62", ".75", ".25", ".50", ".00", ".75", ".25"]


def test_refusals() -> None:
    table = pd.DataFrame({"group": ["forget", "forget", "alike"], "refused": [True, False, True]})
    (axes,) = draw("refusals", {"original": table, "unlearned": table[:2]}).axes
    found = {model: dict(zip(_ticks(axes), heights, strict=True)) for model, heights in _heights(axes).items()}
    assert found["original"] == {"forget": 0.5, "alike": 1.0}
    assert found["unlearned"]["forget"] == 0.5
    assert np.isnan(found["unlearned"]["alike"])


def test_confidence_in_what_is_invented() -> None:
    table = pd.DataFrame(
        {
            "group": ["forget"] * 4 + ["retain"],
            "known": [1.0, 0.0, 0.0, 0.2, 1.0],
            "confidence": [0.9, 0.1, 0.6, 0.8, 0.9],
            "refused": [False, True, False, False, False],
            "invented": [False, False, True, True, False],
        }
    )
    forget, retain = draw("confidence", {"unlearned": table}).axes
    assert _heights(forget)["unlearned"] == pytest.approx([0.3, 0.25, 0.5, 0.7])
    assert _heights(retain)["unlearned"] == [1, 0, 0]  # nothing is invented


def test_membership_is_drawn_as_auc() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(size=7), rng.normal(1, size=9)
    rows = [
        {"signal": signal, "role": role, "row": i, "score": sign * score}
        for signal, sign in (("loss", 1), ("zlib", -1), ("privleak", 1))
        for role, scores in (("forget", members), ("holdout", others))
        for i, score in enumerate(scores)
    ]
    sides = {signal: (sign * members, sign * others) for signal, sign in (("loss", 1), ("zlib", -1), ("privleak", 1))}
    (axes,) = draw("membership", {"unlearned": pd.DataFrame(rows)}, sides).axes
    assert _ticks(axes) == ["loss", "zlib"]
    assert _heights(axes)["unlearned"] == pytest.approx([auc(members, others), auc(-members, -others)])


def test_chains_of_both_sides() -> None:
    table = pd.DataFrame(
        {"side": ["forget", "forget", "retain"], "category": ["direct", "direct", "implied"], "final": [1.0, 0.0, 0.75]}
    )
    forget, retain = draw("sleek", {"original": table, "unlearned": table}).axes
    assert _heights(forget) == {"original": [0.5], "unlearned": [0.5]}
    assert _heights(retain)["original"] == [0.75]


def _table(name: str, value: float) -> pd.DataFrame:
    """Two rows with all columns that are drawn; what is measured is `value`."""
    rows: dict[str, list[Any]] = {
        "stream": ["block"] * 2, "direction": ["into", "out of"], "contrast": ["retain", "text"],
        "format": ["int8", "nf4"], "ring": ["forget", "far"], "level": ["C0", "C1"], "size": ["plain", "n=1"],
        "group": ["forget", "retain"], "signal": ["loss"] * 2, "role": ["forget", "holdout"],
        "side": ["forget", "retain"], "category": ["direct", "implied"], "layer": [0, 0],
        "refused": [False, False], "invented": [False, True], "hops": [2, 2],
    }  # fmt: skip
    rows |= {column: [0, 1] for column in ("step", "turn", "distance", "n")}
    measured = ("accuracy", "score", "moved", "steps", "attacker", "nll", "reached", "known", "mean", "expectation")
    rows |= {column: [value, value] for column in (*measured, "hop_1", "hop_2", "composed", "confidence", "final")}
    rows["control"] = ["", "C1 n=1"] if name == "ladder" else [value, value]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    ("models", "value"),
    [(["unlearned"], NAN), (["original", "unlearned", "placebo"], NAN), (["original", "control"], np.inf)],
)
@pytest.mark.filterwarnings("error")
def test_models_and_values_that_are_missing(name: str, models: list[Any], value: float) -> None:
    """One layer, models, rows or values that are not there: there is a figure all the same."""
    tables = {role: _table(name, value) for role in models}
    more = [{"loss": (np.array([value]), np.array([value]))}] if name == "membership" else []
    if name != "membership":
        tables[models[-1]] = tables[models[-1]][:1]
    assert to_svg(draw(name, tables, *more)).startswith(b"<?xml")
