"""What the figures of a localization draw."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from unlearn.localize import budget
from unlearn.localize.mechanisms import causal_tracing, edge_attribution
from unlearn.localize.mechanisms.tables import explained_probes, explained_sites
from unlearn.localize.weights import weight_mask
from unlearn.report import chart_bars, charts, style
from unlearn.report import localization as drawing
from unlearn.report.localization_folder import Localization, Share
from unlearn.report.style import to_svg
from unlearn.runtime.explained import Explained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

NAN = math.nan
TABLES = {  # columns of the localizers' tables
    "trace": ["prompt", "kind", "layer", "token", "token_text", "effect", "low", "high"],
    "sites": ["site", "layer", "head", "score", "low", "high", "exact"],
    "blocks": ["kind", "layer", "score", "parameters", "selected"],
    "edges": ["source", "target", "score"],
    "probes": ["layer", "prompt", "accuracy", "control"],
    "removal": ["fraction", "forget", "retain"],
}
EXPLAINED: dict[str, Callable[..., Explained]] = {
    "trace": causal_tracing._explained,
    "sites": explained_sites,
    "blocks": budget._explained,
    "edges": edge_attribution._explained,
    "probes": explained_probes,
    "removal": weight_mask._explained,
}
SHARES = (
    Share(None, "embed", 10, 40),
    Share(None, "norm", 0, 4),
    Share(0, "q", 10, 10),
    Share(0, "up", 6, 20),
    Share(2, "q", 0, 10),
    Share(2, "up", 5, 20),
    Share(2, "norm", 1, 2),
)


def located(folder: Path, shares: tuple[Share, ...] = SHARES, **tables: Explained) -> Localization:
    """A localization with those shares and tables; no mask."""
    for name, table in tables.items():
        table.save(folder / f"{name}.parquet")
    selected, total = sum(s.selected for s in shares), sum(s.total for s in shares)
    about: Any = {"localizer": "snip", "selected": selected, "total": total, "fraction": selected / total}
    return Localization(**about, shares=shares, numbers={}, tables=tuple(tables), folder=folder)


def panels(figure: Figure) -> list[Any]:
    """Its axes, colour bars included."""
    return list(figure.axes)


def images(axes: Any) -> np.ndarray:
    """The one heat map in the axes, nan where it is blank."""
    (image,) = axes.images
    return np.ma.filled(image.get_array().astype(float), NAN)


def rows(axes: Any) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def table(name: str, *lines: tuple[Any, ...]) -> pd.DataFrame:
    """A table as a run has it: with all columns, the optional ones empty where the lines end before them."""
    columns = TABLES[name]
    return pd.DataFrame([dict(zip(columns, line, strict=False)) for line in lines], columns=columns)


def draw(name: str, rows: pd.DataFrame, *more: Any) -> Figure:
    """The figure of a table as its localizer explains it."""
    drawn = charts.drawn({"": EXPLAINED[name](rows, *more)}, name)
    assert drawn
    assert drawn.title.startswith("Localization")
    assert drawn.words.endswith(".")
    return drawn.figure


def test_selected_by_type_and_layer(tmp_path: Path) -> None:
    inside, outside, bar = panels(drawing.selected(located(tmp_path)))
    assert rows(inside) == ["q", "up", "norm", "all"]
    assert rows(outside) == ["embed", "norm"]
    assert [label.get_text() for label in inside.get_xticklabels()] == ["0", "1", "2", "all"]
    expected = [[1, NAN, 0, 0.5], [0.3, NAN, 0.25, 0.275], [NAN, NAN, 0.5, 0.5], [16 / 30, NAN, 6 / 32, 22 / 62]]
    assert np.allclose(images(inside), expected, equal_nan=True)
    assert images(outside).tolist() == [[0.25], [0.0]]
    written = [text.get_text() for text in inside.texts]
    assert written == ["100", "", "0", "50", "30", "", "25", "28", "", "", "50", "50", "53", "", "19", "35"]
    assert bar.get_ylim() == (0, 1)
    norm = inside.images[0].norm
    assert norm(32 / 106) == pytest.approx(0.5)  # the whole model's share has the middle colour
    assert (norm.vmin, norm.vmax) == (0, 1)


@pytest.mark.parametrize("shares", [SHARES[:2], SHARES[2:]], ids=["none inside", "none outside"])
def test_selected_without_one_of_the_two(tmp_path: Path, shares: tuple[Share, ...]) -> None:
    panel, _ = panels(drawing.selected(located(tmp_path, shares)))
    assert images(panel).shape == ((2, 1) if shares[0].layer is None else (4, 4))


@pytest.mark.parametrize("layers", [4, 80])
def test_numbers_are_written_where_there_is_room(tmp_path: Path, layers: int) -> None:
    found = located(tmp_path, tuple(Share(layer, "up", layer, 100) for layer in range(layers)))
    panel = panels(drawing.selected(found))[0]
    assert len(panel.texts) == (10 if layers == 4 else 0)
    assert to_svg(drawing.selected(found)) == to_svg(drawing.selected(found))


@pytest.mark.parametrize("selected", [0, 100])
def test_all_or_nothing_selected(tmp_path: Path, selected: int) -> None:
    panel = panels(drawing.selected(located(tmp_path, (Share(0, "up", selected, 100),))))[0]
    assert images(panel)[0, 0] == selected / 100


def test_percent() -> None:
    shown = [style.percent(share) for share in (0.0, 0.004, 0.0449, 0.8, 0.999, 1.0)]
    assert shown == ["0%", "0.4%", "4%", "80%", "99.9%", "100%"]
    assert style.percent(0.8, 1) == "80.0%"


@given(st.floats(1e-5, 1 - 1e-5), st.integers(0, 3))
def test_percent_rounds_to_neither_end(share: float, decimals: int) -> None:
    value = float(style.percent(share, decimals).removesuffix("%"))
    assert 0 < value < 100
    assert value / 100 == pytest.approx(share, abs=0.51 * 10.0 ** -(decimals + 2))


TRACE = table(
    "trace",
    ("average", "hidden", 0, 0, "first subject", 0.1, 0.05, 0.15),
    ("average", "hidden", 1, 0, "first subject", -0.4, -0.6, -0.2),
    ("average", "hidden", 0, 1, "last", 0.02, -0.01, 0.05),
    ("average", "hidden", 1, 1, "last", 0.3, 0.2, 0.4),
    ("average", "mlp", 1, 1, "last", 0.2, 0.1, 0.3),
    ("What is $x$?", "hidden", 1, 2, "?", 0.7),
    ("What is $x$?", "hidden", 0, 1, " $x_{1$", 0.6),
    ("What is $x$?", "hidden", 0, 0, "\n", 0.5),
    ("Another", "hidden", 0, 0, "A", 9.0),
)


def test_trace_of_the_average_and_of_one_prompt() -> None:
    figure = draw("trace", TRACE)
    hidden, mlp, _, example, _ = panels(figure)
    assert [axes.get_title() for axes in (hidden, mlp)] == ["Hidden state", "MLP output"]
    assert images(hidden).tolist() == [[0.1, -0.4], [0.02, 0.3]]
    assert np.array_equal(images(mlp), [[NAN, NAN], [NAN, 0.2]], equal_nan=True)
    assert np.array_equal(images(example), [[0.5, NAN], [0.6, NAN], [NAN, 0.7]], equal_nan=True)
    assert rows(hidden) == ["first subject", "last"]
    assert rows(example) == ["'\\n'", " $x_{1$", "?"]
    bold = [label.get_fontweight() for label in hidden.get_yticklabels()]
    assert bold == ["bold", "normal"]  # what belongs to the subject
    for axes in (hidden, mlp):  # one scale for all panels of a row, with 0 in its middle
        assert axes.images[0].norm(0.0) == 0.5
        assert axes.images[0].norm(-0.4) == 0.0
    assert example.images[0].norm(0.7) == 1.0
    assert hidden.collections[0].get_offsets().tolist() == [[0, 1]]  # the only interval with 0 in it
    assert to_svg(figure).startswith(b"<?xml")  # labels that are no mathematics are not read as such


def test_trace_without_an_average_or_any_effect() -> None:
    example = TRACE[TRACE["prompt"] == "Another"].assign(effect=0.0)
    axes = panels(draw("trace", example))[0]
    assert images(axes).tolist() == [[0.0]]
    assert axes.images[0].norm(0.0) == 0.5


def test_blocks_beside_each_other_selected_ones_in_full_colour() -> None:
    scores = (
        ("attention", 0, 0.5, 100, False),
        ("mlp", 0, 0.25, 300, True),
        ("attention", 1, -0.5, 100, None),
        ("mlp", 1, 1.0, 300, True),
    )
    axes = panels(draw("blocks", table("blocks", *scores)))[0]
    patches: list[Any] = list(axes.patches)
    bars = {
        (round(bar.get_x() + bar.get_width() / 2, 2), bar.get_height()): to_hex(bar.get_facecolor()) for bar in patches
    }
    mlp, pale = style.OTHERS[1], to_hex(chart_bars.pale(style.OTHERS[0]))
    assert bars == {(-0.21, 0.5): pale, (0.79, -0.5): pale, (0.21, 0.25): mlp, (1.21, 1.0): mlp}
    assert "2 of 4 blocks are selected, 600 weights" in EXPLAINED["blocks"](table("blocks", *scores)).words


def test_sites_of_heads_and_of_whole_outputs() -> None:
    lines = (
        ("z", 0, 1, 0.2),
        ("z", 1, 0, -0.3, None, None, -0.6),
        ("mlp_out", 0, None, 0.4, 0.3, 0.6, 0.5),
        ("mlp_out", 1, None, -0.1, -0.2, 0.0),
        ("mine", 1, 0, 0.1),
    )
    heads, outputs, mine, against, *_ = panels(draw("sites", table("sites", *lines)))
    titles = [axes.get_title() for axes in (heads, outputs, mine, against)]
    assert titles == ["Head outputs (z)", "MLP outputs", "mine", "Estimate and exact effect"]
    assert np.array_equal(images(heads), [[NAN, -0.3], [0.2, NAN]], equal_nan=True)
    circles = heads.collections[0]
    assert circles.get_offsets().tolist() == [[1, 0]]
    assert circles.get_array().tolist() == [-0.6]
    assert circles.norm is heads.images[0].norm
    assert circles.norm(-0.6) == 0.0  # the scale holds both
    assert [bar.get_height() for bar in outputs.patches] == [0.4, -0.1]
    ends = [segment[:, 1] for segment in outputs.containers[0].lines[2][0].get_segments()]
    assert np.allclose(ends, [[0.3, 0.6], [-0.2, 0.0]])
    diamonds = next(line for line in outputs.lines if line.get_marker() == "D")
    assert np.array_equal(diamonds.get_xydata(), [[0, 0.5], [1, NAN]], equal_nan=True)
    points = {c.get_label(): c.get_offsets().tolist() for c in against.collections}
    assert points == {"MLP outputs": [[0.4, 0.5]], "Head outputs (z)": [[-0.3, -0.6]]}


def test_sites_that_were_not_checked_have_no_comparison() -> None:
    figure = draw("sites", table("sites", ("mlp_out", 0, None, 0.4), ("mlp_out", 1, None, 0.2)))
    assert [axes.get_title() for axes in panels(figure)] == ["MLP outputs"]


def test_the_strongest_edges() -> None:
    scores = [(-1) ** i * (i + 1) / 10 for i in range(30)]
    lines = [("embed", f"mlp_{i}$", score) for i, score in enumerate(scores)]
    axes = panels(draw("edges", table("edges", *lines)))[0]
    assert [bar.get_width() for bar in axes.patches] == scores[:9:-1]  # 20 of them, by size
    assert rows(axes)[0] == "embed → mlp_29$"
    assert axes.yaxis_inverted()


def test_probes_with_controls_and_chosen_layers() -> None:
    lines = [(layer, p, 0.3 + layer / 10 + (p == "full") / 5, 0.33) for layer in (1, 0, 2) for p in ("name", "full")]
    axes = panels(draw("probes", table("probes", *lines), [1, 2]))[0]
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert np.allclose(drawn["name alone"], [[0, 0.3], [1, 0.4], [2, 0.5]])
    assert np.allclose(drawn["full prompt"], [[0, 0.5], [1, 0.6], [2, 0.7]])
    assert np.allclose(drawn["full prompt, control"][:, 1], 0.33)
    assert [(patch.get_x(), patch.get_width()) for patch in axes.patches] == [(0.5, 1), (1.5, 1)]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] >= 1


def test_removal() -> None:
    lines = ((0.0, 0.9, 0.8), (0.01, 0.1, 0.7))
    axes = panels(draw("removal", table("removal", *lines), ("forget", "retain")))[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"forget": [[0, 0.9], [0.01, 0.1]], "retain": [[0, 0.8], [0.01, 0.7]]}  # nothing was injected


def test_only_what_there_is_a_table_for(tmp_path: Path) -> None:
    assert list(drawing.figures(located(tmp_path))) == ["localize-selected"]
    edges = EXPLAINED["edges"](table("edges", ("a", "b", 1.0)))
    found = located(tmp_path, edges=edges, blocks=Explained(table("blocks")), trace=EXPLAINED["trace"](TRACE))
    drawn = drawing.figures(found)
    assert list(drawn) == ["localize-selected", "localize-edges", "localize-trace"]
    assert all(figure.title.startswith("Localization") and figure.words.endswith(".") for figure in drawn.values())
    again = drawing.figures(found)
    assert all(to_svg(drawn[name].figure) == to_svg(again[name].figure) for name in drawn)
