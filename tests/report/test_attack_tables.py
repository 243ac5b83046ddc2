"""The tables of attacks in the report: which are drawn, and which are left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from unlearn.report.attack_tables import figures, undrawn
from unlearn.report.attacks_folder import Attacks, read_attacks
from unlearn.report.page import ROWS, write_report
from unlearn.runtime.explained import Chart, Explained

HEATMAP = Chart("heatmap", "layer", ("stream",), "score")
MakeRun = Callable[..., Path]
Attack = Callable[..., Any]


def test_tables_are_drawn(attacks: Attacks) -> None:
    drawn = figures(attacks)
    assert list(drawn) == ["attack-lens-lens", "attack-lens-probe"]
    assert all(one.words for one in drawn.values())
    assert drawn["attack-lens-lens"].title == "Logit lens: lens"
    assert not list(undrawn(attacks))


def test_tables_of_another_kind_are_shown_as_they_are(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    for role in ("original", "unlearned", "control"):
        place = folder / "attacks/lens" / role
        Explained(pd.DataFrame({"layer": [], "stream": [], "score": []}), chart=HEATMAP).save(place / "lens.parquet")
        if role != "original":  # which is drawn alone
            table = pd.DataFrame(
                {"depth": [*range(30)], "share": [None, *[1 / 3] * 29], "said": ["<b>A fact</b>"] * 30}
            )
            table.to_parquet(place / "probe.parquet")
    assert json.loads((folder / "attacks/lens/original/attack.json").read_text())["tables"] == ["lens", "probe"]
    attacks = read_attacks(folder / "attacks")
    assert list(figures(attacks)) == ["attack-lens-probe"]
    assert [found[:3] for found in undrawn(attacks)] == [("lens", "unlearned", "probe"), ("lens", "control", "probe")]
    page = write_report(folder).read_text()
    assert "Table probe of lens, unlearned model" in page
    assert "Table probe of lens, original model" not in page
    assert f"{ROWS} of 30 rows of <code>attacks/lens/control/probe.parquet</code>" in page
    assert "<td>0</td><td>–</td>" in page
    assert f"<td>{ROWS - 1}</td><td>0.333</td>" in page
    assert f"<td>{ROWS}</td><td>0.333</td>" not in page
    assert "&lt;b&gt;A fact" in page
    assert "<b>A fact" not in page
