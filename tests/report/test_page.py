"""The report of one run."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from unlearn.report.folder import MODELS, read_run
from unlearn.report.page import _setting, cost, examples, write_report
from unlearn.report.tracking import Tracker
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Chart, Explained

MakeRun = Callable[..., Path]
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "formaction"}
HOSTILE = "<script>alert(1)</script> <img src=http://evil.example/x onerror=alert(2)> | `a` *b* {{ 7*7 }} &amp;\nline"


class Page(HTMLParser):
    """What a browser would see: tags, what they load, and table rows as lists of cell texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.styles: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in LOADING]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data

    def row(self, start: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == start)


def _pages(folder: Path) -> tuple[Page, str]:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text()), (folder / "report.md").read_text()


def test_numbers_and_intervals(make_run: MakeRun) -> None:
    page, md = _pages(make_run())
    row = page.row("Probability")
    assert row[1:4] == ["0.930[0.890, 0.970]", "0.210[0.170, 0.250]", "0.150[0.110, 0.190]"]
    assert row[4] == "40"
    assert page.row("Forget quality (p)")[2].startswith("0.370")
    assert page.row("Probability, world")[2].startswith("0.810")
    assert "| Probability | 0.930 [0.890, 0.970] | 0.210 [0.170, 0.250] | 0.150 [0.110, 0.190] | 40 |" in md
    assert page.row("unlearn")[1:3] == ["10.2", "1100"]
    assert page.row("original")[3] == "an earlier run (cached)"
    for text in (page.text, md):
        assert "14.8 s in all, at most 1100 MB of memory; 20.5 s saved by cached stages." in text
        assert all(value in text for value in ("1,234,567", "beta = 0.1", "lr = 1e-05"))


def test_over_unlearning_is_marked_for_the_unlearned_model_only(make_run: MakeRun) -> None:
    page, md = _pages(make_run())
    row = page.row("MIA: Min-K")
    assert [cell.endswith("over-unlearned") for cell in row[1:4]] == [False, True, False]
    assert md.count("**over-unlearned**") == 2  # Min-K and PrivLeak
    page, md = _pages(make_run("fine", change={"forget/mia_min_k": 0.52, "forget/privleak": -4.0}))
    assert "**over-unlearned**" not in md


def test_generated_text_stays_text(make_run: MakeRun) -> None:
    page, md = _pages(make_run(texts={("forget", 0): HOSTILE, ("retain", 0): HOSTILE}))
    assert page.tags.count("script") == 1  # ours
    assert page.tags.count("img") == 3  # our figures
    assert page.text.count(HOSTILE) == 6  # two probes, three models
    assert "<script" not in md
    assert "<img" not in md
    hostile_rows = [line for line in md.splitlines() if "alert" in line]
    assert len(hostile_rows) == 6
    for line in hostile_rows:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3  # still a table row of two cells
        assert not re.search(r"(?<!\\)[`*]", line)


def test_nothing_is_loaded_from_elsewhere(make_run: MakeRun) -> None:
    folder = make_run()
    page, _ = _pages(folder)
    assert page.loads
    assert all(load.startswith("data:image/svg+xml;base64,") for load in page.loads)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    html = (folder / "report.html").read_text()
    assert "@import" not in html
    assert "url(" not in html
    assert "fetch(" not in html
    for load in page.loads:
        svg = base64.b64decode(load.partition(",")[2]).decode()
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))


def test_markdown_shows_figures_that_are_there(make_run: MakeRun) -> None:
    folder = make_run()
    _, md = _pages(folder)
    files = re.findall(r"!\[.*\]\((.*)\)", md)
    assert len(files) == 3
    assert all((folder / file).read_text().startswith("<?xml") for file in files)


def test_writing_it_again_changes_nothing(make_run: MakeRun) -> None:
    folder = make_run()
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_without_control_model(make_run: MakeRun) -> None:
    page, md = _pages(make_run(has_control=False))
    assert page.row("metric")[:4] == ["metric", "original", "unlearned", "n"]
    for text in (page.text, md):
        assert "Undefined: Forget quality (p) (no control model), KS distance (no control model)." in text
        assert "no control model: forget quality is left out" in text  # the run's own note


def test_without_curve_history_and_answers(make_run: MakeRun) -> None:
    folder = make_run(change={"forget/probability": None})
    shutil.rmtree(folder / "unlearned")
    for model in ("original", "unlearned", "control"):
        (folder / "scores" / model / "generations.parquet").unlink()
    page, md = _pages(folder)
    assert page.row("Probability")[2] == "–"
    assert page.tags.count("img") == 1
    assert "Trade-off" not in md
    assert "No generated answers were saved." in page.text
    assert "No generated answers were saved." in md
    assert "nan" not in md


def test_what_changes_the_weights_is_in_the_setting(make_run: MakeRun) -> None:
    run = read_run(make_run())
    sam = {"_target_": "x.SAM", "rho": 0.02, "inner": {"_target_": "x.AdamW", "betas": [0.9, 0.95]}}
    config = {**run.config, "update": sam, "lora": {"_target_": "x.Lora", "rank": 16}, "finetune_update": sam["inner"]}
    found = dict(_setting(replace(run, config=config)))
    assert found["update"] == "SAM: rho = 0.02, inner = (AdamW: betas = [0.9, 0.95])"
    assert found["lora"] == "Lora: rank = 16"
    assert found["finetune update"] == "AdamW: betas = [0.9, 0.95]"


def test_no_scope_where_no_attack_counted(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folder = make_run()
    attack(folder)
    assert "Scope: " in _pages(folder)[0].text
    file = folder / "attacks/leak.json"
    saved = json.loads(file.read_text())
    for row in saved["rows"]:
        row["counts"] = False
    file.write_text(json.dumps(saved))
    page, md = _pages(folder)
    assert "Scope: " not in page.text + md


def test_examples_are_evenly_spaced_and_complete(make_run: MakeRun) -> None:
    found = examples(read_run(make_run()))
    assert [(example["probe"], example["item"]) for example in found] == [
        ("forget", 0), ("forget", 1), ("forget", 2), ("retain", 0), ("retain", 1),
    ]  # fmt: skip
    assert found[3]["texts"] == [
        ("question", "question retain 0?"),
        ("true answer", "answer retain 0"),
        ("before (original)", "original says retain 0"),
        ("after (unlearned)", "unlearned says retain 0"),
        ("control model", "control says retain 0"),
    ]


def test_the_tracker_gets_the_same(make_run: MakeRun) -> None:
    class Notes(Tracker):
        def log_results(self, results: Any) -> None:
            self.results = {model: {r.key: r.value for r in found} for model, found in results.items()}

        def log_figures(self, figures: Any) -> None:
            self.figures = list(figures)

    tracker = Notes()
    write_report(make_run(), tracker)
    assert tracker.results["unlearned"]["forget/probability"] == 0.21
    assert set(tracker.results) == set(MODELS)
    assert tracker.figures == ["tradeoff", "probes", "losses"]


def test_a_localized_run(make_run: MakeRun, localize: Callable[..., Any]) -> None:
    folder = make_run()
    blocks = {"kind": ["mlp"], "layer": [2], "score": [0.5], "parameters": [4], "selected": [True]}
    chart = Chart("bar", "layer", ("score",), series="kind", marked="selected")
    localize(
        folder,
        {"model.layers.0.mlp.up_proj.weight": [0, 1, 2]},
        numbers={"gamma": 6.25e-4, "first.snip_iou": 0.43, "facts": 1600.0, "my_own": None},
        tables={"blocks": Explained(pd.DataFrame(blocks), "Localization: scores of the blocks", "", chart)},
        words={"gamma": "Curvature of a loss.", "first.snip_iou": "Overlap with SNIP's."},
        select=0.15,
        also=[],
        first={"_target_": "unlearn.localize.weights.snip.Snip", "select": 0.5},
    )
    page, md = _pages(folder)
    assert page.row("gamma")[1] == "0.000625"
    assert "Curvature" in page.row("gamma")[2]
    assert page.row("first.snip iou")[1] == "0.43"
    assert "SNIP" in page.row("first.snip iou")[2]
    assert page.row("facts")[1] == "1,600"
    assert page.row("my own")[1:] == ["–", ""]
    assert page.tags.count("img") == 5
    for text in (page.text, md.replace("\\_", "_")):
        assert "wagle: select = 0.15, first = (Snip: select = 0.5)" in text
        assert "Localized by wagle: 15.0% of 20 weights may change." in text
        assert "Localization: the selected weights" in text
        assert "Localization: scores of the blocks" in text
    assert all((folder / f"figures/localize-{name}.svg").exists() for name in ("selected", "blocks"))
    assert "figures/localize-blocks.svg" in md
    for load in page.loads:  # heat maps are pictures within pictures, and they too are whole
        svg = base64.b64decode(load.partition(",")[2]).decode()
        links = re.findall(r'href="([^"]*)"', svg)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_no_localization_no_words_about_it(make_run: MakeRun) -> None:
    page, md = _pages(make_run())
    assert "ocaliz" not in page.text
    assert "ocaliz" not in md


def test_cost_without_cached_stages(make_run: MakeRun) -> None:
    folder = make_run()
    text = (folder / "run.json").read_text().replace('"cached": true', '"cached": false')
    (folder / "run.json").write_text(text)
    assert cost(read_run(folder)) == "35.2 s in all, at most 1100 MB of memory."
    (folder / "run.json").write_text(text.replace('"cached": false', '"cached": true'))
    assert cost(read_run(folder)) == "All stages were there from earlier runs (35.2 s when they were made)."


def test_a_broken_run_gets_no_report(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "metrics.json").write_text("{")
    with pytest.raises(UserError):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_an_attacked_run(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folder = make_run()
    leaks = attack(folder)
    page, md = _pages(folder)
    html = (folder / "report.html").read_text()
    verdict = f"could have seen a leak of 0.25): worst-case leak {leaks.overall.leak:.2f}"
    for text in (html, md):  # above everything else, with its scope
        assert 0 < text.index(verdict) < text.index("Scope: 2 black-box and 1 white-box") < text.index("Setting")
    row = page.row("relearnrelearning, arXiv 0000.00000up to 10 forget rows, 3 passes10 rows, rate 1")
    assert row[1:6] == ["1.00", "0.75own items 0.90", "0.08", "0.75", "0.67"]
    assert row[6].startswith("0.73[")
    assert row[7:] == ["10", "0.80", "6.030"]
    assert page.row("detachdetaching, arXiv 0000.00000")[1:] == ["skipped: no adapter"]
    assert "error: ValueError: a | hostile <b>reason</b>" in page.text
    assert "<b>reason" not in html
    assert page.tags.count("img") == 3 + 4
    assert "figures/attack-leaks.svg" in md
    assert (folder / "figures/attack-budgets.svg").exists()
    assert (folder / "attacks/leak.md").exists()
    said = "9 of 12 questions are answered by the attacked unlearned model, though neither it, asked plainly, nor"
    assert said in page.text
    assert "only luck can explain it: 1." in page.text
    assert "unlearned: answer 0" in page.text
    assert "unlearned: answer 0" not in md  # answers stay on the page
    assert "nan" not in md
    assert ">nan<" not in html


def test_no_attack_no_words_about_it(make_run: MakeRun) -> None:
    page, md = _pages(make_run())
    body = page.text.partition("Setting")[2].lower()
    assert "worst" not in body
    assert "leak" not in body.replace("privleak", "").replace("leaks (−100", "")
    assert "## Leaks" not in md
    assert "verdict" not in md


def test_an_attack_alone_has_a_report(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    folder = make_run()
    attack(folder, models={"unlearned": "some/model"})
    for name in ("unlearned", "scores"):
        shutil.rmtree(folder / name)
    (folder / "metrics.json").unlink()
    page, md = _pages(folder)
    assert md.startswith("# attack on authors forget10")
    assert "## Leaks" in md
    assert "## Results" not in md
    assert page.row("relearnrelearning, arXiv 0000.00000up to 10 forget rows, 3 passes10 rows, rate 1")
    assert "some/model" in page.text
    assert page.tags.count("img") == 4


def test_the_tracker_gets_the_leaks(make_run: MakeRun, attack: Callable[..., Any]) -> None:
    class Notes(Tracker):
        def log_summary(self, values: Any) -> None:
            self.values = values

        def log_figures(self, figures: Any) -> None:
            self.figures = list(figures)

    tracker, folder = Notes(), make_run()
    attack(folder)
    write_report(folder, tracker)
    assert tracker.values["attack/sample/leak"] == pytest.approx(0.5)
    assert tracker.figures[:2] == ["attack-leaks", "attack-budgets"]
    assert "losses" in tracker.figures
