"""TOFU's metrics and forget quality from the published logs of a 7B model (fixture `tofu_logs`); no model is needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearn.metrics.forget_quality import ForgetQuality
from unlearn.metrics.intervals import mean_interval
from unlearn.metrics.model_utility import ModelUtility
from unlearn.metrics.probability import Probability
from unlearn.metrics.rouge import Rouge, rouge
from unlearn.metrics.truth_ratio import TruthRatio
from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Tables

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.metrics.base import Metric

ROLES = {"forget": "forget", "retain": "retain", "real_authors": "utility", "world_facts": "utility"}
MODELS = ("target", "retain")


@pytest.fixture(scope="module")
def logs(parity: Path) -> dict[str, Any]:
    return {part: json.loads((parity / "tofu_logs" / f"{part}_rows.json").read_text()) for part in MODELS}


@pytest.fixture(scope="module")
def expected(parity: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((parity / "tofu_logs" / "expected.json").read_text())
    return read


@pytest.fixture(scope="module")
def tables(logs: dict[str, Any]) -> dict[str, Tables]:
    return {part: table(logs[part]) for part in MODELS}


def table(rows: dict[str, list[dict[str, Any]]]) -> Tables:
    """Logged mean losses as a score table: a candidate whose mean loss is known counts as one token."""
    tokens, generations = [], []
    for probe, role in ROLES.items():
        for item, row in enumerate(rows[probe]):
            place = {"probe": probe, "aim": role, "item": item, "normalise": role == "utility"}
            place["cluster"] = f"author {item // 20}" if role in ("forget", "retain") else ""
            # the real-world sets log the answer's loss twice, from two passes in low precision that differ a little
            candidates = [("answer", 0, row["answer_loss"]), ("paraphrase", 0, row["paraphrase_loss"])]
            candidates += [("perturbed", i, loss) for i, loss in enumerate(row["perturbed_losses"])]
            tokens += [{**place, "kind": kind, "choice": i, "logp": np.array([-x])} for kind, i, x in candidates]
            generations.append({**place, "answer": row["answer"], "generation": row["generated"]})
    frames = (pd.DataFrame(tokens, columns=TOKENS), pd.DataFrame(generations, columns=GENERATIONS))
    return {"tokens": frames[0], "generations": frames[1], "gradients": pd.DataFrame(columns=GRADIENTS)}


def values(metric: Metric, scores: Tables, control: Tables | None = None) -> dict[str, float]:
    return {result.key: result.value for result in metric(scores, {"control": control} if control is not None else {})}


@pytest.mark.parametrize("part", MODELS)
@pytest.mark.parametrize(
    ("metric", "logged"),
    [(Probability(), "probability"), (Rouge(), "rougeL_recall"), (TruthRatio(), "truth_ratio")],
)
def test_aggregates(
    tables: dict[str, Tables], expected: dict[str, Any], part: str, metric: Metric, logged: str
) -> None:
    name = "rouge" if logged == "rougeL_recall" else logged
    theirs = {f"{probe}/{name}": expected[part][probe][logged] for probe in ROLES}
    assert values(metric, tables[part]) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("part", MODELS)
def test_model_utility(tables: dict[str, Tables], expected: dict[str, Any], part: str) -> None:
    assert values(ModelUtility(), tables[part])["model_utility"] == pytest.approx(
        expected[part]["model_utility"], rel=1e-6
    )


def test_forget_quality(tables: dict[str, Tables], expected: dict[str, Any]) -> None:
    theirs, ours = expected["forget_quality"], ForgetQuality()(tables["target"], {"control": tables["retain"]})
    assert {result.name: result.value for result in ours} == pytest.approx(
        {"forget_quality": theirs["p_value"], "forget_quality_ks": theirs["ks_statistic"]}, rel=1e-6
    )
    assert [result.n for result in ours] == [theirs["n"][0]] * 2


@pytest.mark.parametrize("part", MODELS)
@pytest.mark.parametrize("variant", ["rouge1", "rougeL"])
def test_rouge_of_every_row(logs: dict[str, Any], part: str, variant: str) -> None:
    for probe in ROLES:
        rows = logs[part][probe]
        ours = rouge([row["answer"] for row in rows], [row["generated"] for row in rows], variant, "recall")
        assert ours == pytest.approx([row[f"{variant}_recall"] for row in rows], abs=1e-9)


def test_intervals_count_authors(tables: dict[str, Tables]) -> None:
    """20 questions about each of 15 authors: the control's probability is known about 1.6 times less well."""
    [found] = [r for r in Probability()(tables["retain"], {}) if r.probe == "forget"]
    by_author = found.items.reshape(15, 20).mean(axis=1)
    error = stats.t.ppf(0.975, 14) * by_author.std(ddof=1) / np.sqrt(15)
    assert (found.low, found.high) == pytest.approx((found.value - error, found.value + error), abs=0.25 * error)
    low, high = mean_interval(found.items)
    widened = (found.high - found.low) / (high - low)
    few = stats.t.ppf(0.975, 14) / stats.norm.ppf(0.975)  # for so few authors Student's t, 1.09 times as wide
    assert widened / few == pytest.approx(1.6, abs=0.1)


def test_the_distance_has_a_null_band(tables: dict[str, Tables]) -> None:
    p, distance = ForgetQuality()(tables["target"], {"control": tables["retain"]})
    assert np.isnan([p.low, p.high, distance.low, distance.high]).all()
    assert distance.note.startswith("alike models: up to 0.")
    assert distance.value > float(distance.note.split()[4])
