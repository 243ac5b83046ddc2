from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from unlearn.metrics.base import Metric, Result
from unlearn.metrics.evaluate import evaluate, from_rows, readings, to_rows
from unlearn.runtime.components import build, conf_dir

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted((conf_dir() / "metric").glob("*.yaml"))
GENERATED = {"generation": "a b", "reference": "a b c", "paraphrase_text": "b a", "value": "b"}
ITEM = {"answer": [-1, -2, -1], "paraphrase": [-2], "perturbed": [[-3], [-2]], "gradnorm": 1.0, **GENERATED}
SETS = ("forget", "paraphrase", "neighbourhood", "retain", "world", "holdout")


@pytest.fixture(scope="module")
def metrics() -> dict[str, Metric]:
    return {name: metric for path in FILES for name, metric in build(OmegaConf.load(path), "metric").items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_configuration_is_one_metric_with_all_its_fields_and_a_header(path: Path) -> None:
    config: Any = OmegaConf.load(path)
    assert list(config) == [path.stem]
    metric = build(config, "metric")[path.stem]
    assert list(config[path.stem])[1:] == [field.name for field in dataclasses.fields(metric)]
    what, _, command = path.read_text().splitlines()[:3]
    assert what.startswith("# ")
    assert what.endswith(".")
    assert command.startswith(f"# unlearn run metric=[{path.stem}]")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_result_bears_the_name_of_the_configuration(path: Path, make_scores) -> None:
    metric = build(OmegaConf.load(path), "metric")[path.stem]
    scores = make_scores(**{name: [ITEM] for name in SETS})
    first, *_ = evaluate({"any": metric}, scores, {"control": scores})
    assert first.name == path.stem
    assert math.isfinite(first.value), first.note
    assert math.isnan(first.low + first.high)  # one item has no interval


@pytest.mark.parametrize("with_control", [True, False])
@pytest.mark.parametrize(
    "sets",
    [
        {},
        {"forget": []},
        {"forget": [{"answer": [-1]}]},
        {"holdout": [{"answer": [-1]}]},
        {"retain": [{"answer": [-1, -2], "perturbed": [[-1]]}]},
        {
            "forget": [{"answer": [math.nan, math.nan], "perturbed": [[math.nan]]}],
            "holdout": [{"answer": [math.nan] * 2}],
        },
        {"world": [{"answer": [-1], **GENERATED}]},
        {"neighbourhood": [{"answer": [math.nan], "perturbed": [[-1]]}]},
        {"forget": [ITEM], "neighbourhood": [{"answer": [-1]}]},
        {"forget": [ITEM, {"answer": [-1]}], "retain": [ITEM], "holdout": [{"answer": [-1]}]},
    ],
)
def test_no_metric_fails_where_data_are_missing(metrics, make_scores, sets: dict[str, Any], with_control: bool) -> None:
    scores = make_scores(**sets)
    for result in evaluate(metrics, scores, {"control": scores} if with_control else {}):
        assert math.isfinite(result.value) or result.note


def test_results_survive_a_file() -> None:
    results = [
        Result("truth_ratio", "forget", 0.25, 0.1, 0.4, 7, np.arange(7)),
        Result.undefined("forget_quality", "", "no control model"),
    ]
    rows = to_rows(results)
    assert list(rows[0]) == ["name", "probe", "value", "low", "high", "n", "note"]
    assert (rows[1]["value"], rows[1]["low"], rows[1]["note"]) == (None, None, "no control model")
    again = from_rows(json.loads(json.dumps(rows, allow_nan=False)))
    assert again[0] == results[0]
    assert math.isnan(again[1].value)
    assert to_rows(again) == rows


def test_metrics_are_built_without_the_heavy_libraries() -> None:
    code = (
        "import sys, unlearn.runtime.components as c, omegaconf\n"
        "for path in (c.conf_dir() / 'metric').glob('*.yaml'): c.build(omegaconf.OmegaConf.load(path), 'metric')\n"
        "sys.exit(bool({'torch', 'transformers', 'scipy', 'rouge_score', 'sklearn'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_metric_whose_table_is_missing_is_undefined_and_says_so(metrics, make_scores) -> None:
    tokens = {"tokens": make_scores(forget=[ITEM])["tokens"]}
    found = {result.key: result for result in evaluate(metrics, tokens, {})}
    assert found["forget/mia_gradnorm"].note == "no table 'gradients': no scorer in evaluate= gives it"
    assert math.isnan(found["forget/rouge"].value)
    assert "'generations'" in found["model_utility"].note
    assert found["forget/probability"].value == pytest.approx(math.exp(-4 / 3))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_metric_says_what_it_reads_and_how_it_is_shown(path: Path) -> None:
    metric = build(OmegaConf.load(path), "metric")[path.stem]
    assert metric.reads
    assert metric.reads <= {"tokens", "generations", "gradients"}
    for reading in metric.reading:
        assert reading.words.endswith(".")
        assert reading.title
        assert reading.group
        assert reading.aims
    kept = json.loads(json.dumps(readings({"any": metric})))  # as a run has them
    assert [row["name"] for row in kept] == [reading.name for reading in metric.reading]
