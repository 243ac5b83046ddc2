"""The leak report for people: its table, the verdict with its scope, Markdown, and what is tracked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from unlearn.leak.record import AttackRun
from unlearn.report.attacks_folder import Attacks, read_attacks
from unlearn.report.leak import track_leaks, tracked
from unlearn.report.leak_console import print_leaks, table
from unlearn.report.leak_words import cost, decimal, groups, scope, state, threat_level, verdict
from unlearn.report.tracking import Tracker
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MakeRun = Callable[..., Path]
Attack = Callable[..., Any]


def test_rows_by_threat_level_the_most_leaking_first(attacks: Attacks) -> None:
    found = [(group.title, [row.attack for row in group.rows]) for group in groups(attacks)]
    assert found == [
        ("No attack", ["none"]),
        ("Black-box", ["sample", "prompts"]),
        ("Grey-box", ["detach", "quantize"]),  # skipped, then broken
        ("White-box", ["relearn", "lens", "ruin"]),  # counts, a diagnostic, uninformative
    ]
    worst = {group.title: group.worst for group in groups(attacks)}
    assert worst["Grey-box"] is None
    assert worst["Black-box"] is not None
    assert worst["Black-box"].threat == "black"


def test_what_is_said_of_a_row(attacks: Attacks) -> None:
    rows = {row.attack: row for row in attacks.leaks.rows}
    assert state(rows["relearn"]) == "10 rows, rate 1"
    assert state(rows["none"]) == ""
    assert state(rows["lens"]) == "A is 1/rank, a diagnostic, layer 1"
    assert state(rows["detach"]) == "skipped: no adapter"
    assert state(rows["ruin"]).startswith("uninformative: the attacked original shows 0.00 more")
    assert (cost(rows["relearn"]), cost(rows["sample"]), cost(rows["prompts"])) == ("10", "16", "")
    assert cost(replace(rows["relearn"], cost=math.inf)) == "inf"


def test_the_verdict_names_its_scope(attacks: Attacks) -> None:
    worst = attacks.leaks.overall
    ends = f"[{worst.low:.2f}, {worst.high:.2f}]"
    assert verdict(attacks).startswith(
        f"inconclusive (0 of 3 attacks could have seen a leak of 0.25): worst-case leak {worst.leak:.2f} {ends}, "
    )
    assert verdict(attacks).endswith("; fewer than 8 clusters or 8 items never give more")
    assert scope(attacks) == (
        "2 black-box and 1 white-box attacks, each at the budget in the table; no grey-box attack; not counted: "
        "1 error, 1 skipped, 1 uninformative and 1 diagnostic; control: the control model, which never learned it, "
        "under the same attacks; 12 questions; known: the answer contains the bare fact"
    )


def test_other_scopes(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder, only=("prompts",), control="chance", answer_metric="prob", seeds=[0, 1, 2])
    said = scope(read_attacks(folder / "attacks"))
    assert said.startswith(
        "1 black-box attack, each at the budget in the table, 3 seeds; no grey-box or white-box attack;"
    )
    assert "control: guessing" in said
    assert said.endswith("known: probability of the true answer, per token")


def test_where_no_attack_could_tell_anything(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder, only=("ruin", "quantize"))
    found = read_attacks(folder / "attacks")
    assert verdict(found) == "inconclusive: no attack could tell anything"
    assert scope(found) == ""


def _console(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    print_leaks(folder)
    lines = capsys.readouterr().out.splitlines()
    return {line.strip().split("  ")[0]: re.split(r"\s{2,}", line.strip()) for line in lines if line.strip()}


def test_on_the_console(make_run: MakeRun, attack: Attack, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    attack(folder)
    lines = _console(folder, capsys)
    assert lines["relearn"][:5] == ["relearn", "white", "1.00", "0.75", "0.08"]
    assert lines["relearn"][5].startswith("0.73 [")
    assert lines["relearn"][6] == "10 rows, rate 1"
    assert lines["detach"][:3] == ["detach", "grey", "–"]
    assert lines["detach"][-1] == "skipped: no adapter"
    assert lines["worst case of all"][-1] in ("leaks", "inconclusive", "no leak found")
    assert f"leaks: {folder / 'attacks/leak.md'}" in lines
    assert any(line.startswith("scope: 2 black") for line in lines)
    text = " ".join(cell for cells in lines.values() for cell in cells)
    assert "nan" not in text
    assert "question" not in text.replace("12 questions", "")
    assert "answer 0" not in text


def test_the_console_table_fits(attacks: Attacks) -> None:
    from rich.console import Console

    assert Console(width=200).measure(table(attacks)).minimum <= 80


def test_markdown(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run("a_run")
    attack(folder)
    print_leaks(folder)
    text = (folder / "attacks/leak.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# Leaks of a\\_run"
    assert "Scope: 2 black-box and 1 white-box attacks" in text
    cells = {parts[1].strip(): parts for parts in (re.split(r"(?<!\\)\|", line) for line in lines) if len(parts) > 2}
    head = [cell.strip() for cell in cells["attack"]]
    row = {name: cell.strip() for name, cell in zip(head, cells["relearn"], strict=True)}
    assert (row["A original"], row["A unlearned"], row["A control"], row["leak"]) == ("1.00", "0.75", "0.08", "0.73")
    assert (row["half at"], row["own items"], row["utility"], row["seconds"], row["GFLOP"]) == (
        "10",
        "0.90",
        "0.80",
        "6.0",
        "30",
    )
    assert row["with"] == "up to 10 forget rows, 3 passes"
    assert row["gain"] == "0.75"
    assert row["excess"] == "0.67"
    assert all(
        len(parts) == len(head) for name, parts in cells.items() if name in ("quantize", "none", "lens", "detach")
    )
    assert "nan" not in text
    assert "<b>" not in text
    assert "answer 0" not in text
    assert "> 4 clusters are too few for a verdict" in text


def test_decimals() -> None:
    assert [decimal(x) for x in (0.125, -0.001, -0.5, math.nan, 2.0)] == ["0.12", "0.00", "−0.50", "–", "2.00"]


def test_what_is_tracked_has_no_nan(attacks: Attacks) -> None:
    values = tracked(attacks)
    worst = attacks.leaks.overall
    assert values["attack/relearn/leak"] == pytest.approx((9 - 1) / (12 - 1))
    assert values["attack/relearn/excess"] == pytest.approx(8 / 12)
    assert values["attack/relearn/gain"] == pytest.approx(0.75)
    assert values["attack/relearn/A_u"] == 0.75
    assert values["attack/none/A_u"] == 0.0
    assert [values[f"attack/worst/{key}"] for key in ("leak", "leak_low", "leak_high")] == [
        worst.leak,
        worst.low,
        worst.high,
    ]
    assert values["attack/verdict"] == worst.verdict
    assert "attack/ruin/leak" not in values
    assert "attack/lens/gain" not in values
    assert "attack/detach/A_u" not in values
    assert all(isinstance(value, str) or math.isfinite(value) for value in values.values())


def test_threat_levels_and_further_numbers_are_tracked(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    for role, bound in (("unlearned", 0.25), ("control", math.nan)):
        place = folder / "attacks/sample" / role
        one = AttackRun.load(place)
        replace(one, result=replace(one.result, numbers={"bound": bound})).save(place)
    attacks = replace(read_attacks(folder / "attacks"), numbers={"sample": {"gap": 0.5}})
    values = tracked(attacks)
    assert values["attack/sample/unlearned/bound"] == 0.25
    assert values["attack/sample/gap"] == 0.5
    assert "attack/sample/retain/bound" not in values
    levels = {one.threat: one.leak for one in attacks.leaks.worst[:-1]}
    assert levels
    assert all(values[f"attack/worst/{threat}/leak"] == leak for threat, leak in levels.items())


def test_an_attacker_with_the_original_is_told_apart(attacks: Attacks) -> None:
    rows = [replace(row, with_original=row.attack == "relearn") for row in attacks.leaks.rows]
    assert {row.attack: threat_level(row) for row in rows if row.attack in ("none", "relearn", "lens")} == {
        "none": "",
        "relearn": "white+o",
        "lens": "white",
    }


def test_the_tracker_gets_the_numbers_and_the_table(attacks: Attacks) -> None:
    class Notes(Tracker):
        def log_summary(self, values: Any) -> None:
            self.values = values

        def log_table(self, name: str, table: pd.DataFrame) -> None:
            self.table = name, table

    notes = Notes()
    track_leaks(attacks, notes)
    name, rows = notes.table
    assert notes.values == tracked(attacks)
    assert name == "attack/leaks"
    assert list(rows["attack"]) == [row.attack for row in attacks.leaks.rows]
    assert list(rows["cost"])[1:3] == ["", "16"]  # words: infinity can be said


def test_a_folder_without_attacks(make_run: MakeRun) -> None:
    with pytest.raises(UserError, match=r"there is no file .*leak.json"):
        print_leaks(make_run())


def test_damage(make_run: MakeRun, attack: Attack) -> None:
    folder = make_run()
    attack(folder)
    path = folder / "attacks/leak.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"about": {"seeds": [0]}}))
    with pytest.raises(UserError, match=r"leak.json is damaged: answer_metric"):
        read_attacks(folder / "attacks")


def test_the_verdict_names_the_bound_and_who_could_have_seen_it(attacks: Attacks) -> None:
    worst = replace(attacks.leaks.overall, counted=20, able=17, verdict="no leak found")
    no_leak = replace(attacks, leaks=replace(attacks.leaks, worst=(worst,)))
    assert verdict(no_leak).startswith(
        "no leak above 0.25 found (by 17 of 20 attacks that could have seen it): worst-case"
    )
    small = replace(worst, verdict="small leak", leaking=("relearn", "lens", "sample"))
    there = replace(attacks, leaks=replace(attacks.leaks, worst=(small,)))
    assert verdict(there).startswith("small leak (by relearn and 2 more of 20 attacks): worst-case leak")
