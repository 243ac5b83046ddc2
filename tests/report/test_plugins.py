"""A component from outside shows up in the report and in comparisons; the report knows none by its name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from unlearn.attacks.base import AttackResult, Outcome
from unlearn.leak.leak_row import NONE
from unlearn.leak.record import AttackRun, Record
from unlearn.report.compare import compare
from unlearn.report.page import write_report
from unlearn.runtime.components import conf_dir
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUPS = ("attack", "localize", "method", "metric", "dataset")
REPORT = Path(__file__).parents[2] / "unlearn" / "report"
N = 12


def shouted(role: str, share: float) -> AttackRun:
    """What a toy attack found: that much of the items, by how loud it asked."""
    table = pd.DataFrame({"volume": ["whisper", "shout"], "share": [share / 2, share]})
    chart = Chart("bar", "volume", ("share",), words={"share": "answers that come back"})
    explained = Explained(table, "Loudness", "How loud one has to ask.", chart)
    known = (np.arange(N) < share * N).astype(float)
    return AttackRun(AttackResult([Outcome("loud", known)], tables={"volumes": explained}), 1.0, 1.0)


def records() -> list[Record]:
    shares = {"original": 1.0, "unlearned": 0.5, "control": 0.0}
    plain: dict[Any, AttackRun] = {
        role: AttackRun(AttackResult([Outcome(NONE, np.full(N, float(role == "original")), counts=False)]))
        for role in shares
    }
    found: dict[Any, AttackRun] = {role: shouted(role, share) for role, share in shares.items()}
    return [Record(NONE, "black", "none", "", plain), Record("shout", "black", "loud", "", found)]


def test_an_attack_from_outside_is_drawn(
    make_run: Callable[..., Path], attack: Callable[..., Any], tmp_path: Path
) -> None:
    folders = [make_run("a"), make_run("b", method={"beta": 0.5})]
    for folder in folders:
        attack(folder, records())
    page = write_report(folders[0]).read_text()
    assert "Loudness: shout" in page
    assert "How loud one has to ask." in page
    assert "answers that come back" in (folders[0] / "figures/attack-shout-volumes.svg").read_text()
    compare(folders, tmp_path / "out")
    assert "Loudness: shout, unlearned models" in (tmp_path / "out/compare.html").read_text()
    assert (tmp_path / "out/figures/attack-shout-volumes.svg").exists()


def components() -> set[str]:
    """Names of choices, and of the classes that they are made into."""
    names = set()
    for group in GROUPS:
        for path in (conf_dir() / group).glob("*.yaml"):
            names |= {path.stem, *re.findall(r"_target_: [\w.]+\.(\w+)", path.read_text())}
    return names


COMMON = {"none", "file", "probe"}
"""Names that are words of the report's own: "none" is the row without an attack; a probe is a question of a set."""


def named(path: Path) -> Iterator[str]:
    """The identifiers and the texts of a module, and the parts of texts that are keys ("forget/probability")."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.split("/")


@pytest.mark.parametrize("path", sorted(REPORT.glob("*.py")), ids=lambda path: path.stem)
def test_the_report_names_no_component(path: Path) -> None:
    assert not (set(named(path)) & components()) - COMMON
