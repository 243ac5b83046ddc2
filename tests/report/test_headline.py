"""Which numbers come first, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unlearn.metrics.base import Result
from unlearn.report.folder import read_run
from unlearn.report.headline import headline, show, show_interval, undefined

NAN = math.nan

MakeRun = Callable[..., Path]


def test_groups_in_reading_order(make_run: MakeRun) -> None:
    lines = headline(read_run(make_run()))
    by_group: dict[str, list[str]] = {}
    for line in lines:
        by_group.setdefault(line.group, []).append(line.key)
    forget = [f"forget/{name}" for name in ("probability", "rouge", "truth_ratio", "recall")]
    kept = [f"{probe}/{name}" for name in ("probability", "rouge", "recall") for probe in ("retain", "world")]
    assert by_group == {
        "Forgetting": ["forget_quality", "forget_quality_ks", *forget],
        "Utility": ["model_utility", *kept],
        "Memorisation": ["forget/exact_memorization", "forget/extraction_strength"],
        "Membership": ["forget/mia_min_k", "forget/privleak"],
    }
    assert list(by_group) == ["Forgetting", "Utility", "Memorisation", "Membership"]
    assert all(line.words for line in lines)
    assert next(line for line in lines if line.key == "world/rouge").title == "ROUGE-L recall, world"


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "control", "expected"),
    [
        ("mia_min_k", 0.3, 0.25, 0.35, None, True),
        ("mia_min_k", 0.48, 0.4, 0.55, None, False),  # 0.5 lies in the interval: no sign of it
        ("mia_min_k", 0.9, 0.85, 0.95, None, False),
        ("mia_min_k", 0.6, 0.55, 0.65, 0.9, False),  # below the control model, but still known
        ("mia_min_k", 0.3, 0.25, 0.35, 0.33, False),  # held-out rows are easier for the control model too
        ("mia_min_k", 0.3, 0.25, 0.35, 0.4, True),
        ("mia_loss", 0.3, NAN, NAN, None, True),  # no interval: the value alone
        ("privleak", 20.0, 10.0, 30.0, 0.0, True),
        ("privleak", 20.0, -1.0, 41.0, 0.0, False),
        ("privleak", -50.0, -60.0, -40.0, 0.0, False),
        ("probability", 0.0, 0.0, 0.0, 0.5, False),  # has no such side
        ("mia_min_k", NAN, NAN, NAN, None, False),
    ],
)
def test_over_unlearning(
    make_run: MakeRun, name: str, value: float, low: float, high: float, control: float | None, expected: bool
) -> None:
    results = {"unlearned": Result(name, "forget", value, low, high, 10)}
    if control is not None:
        results["control"] = Result(name, "forget", control, control, control, 10)
    run = replace(read_run(make_run()), aims={"forget": "forget"})
    run = replace(run, results={model: {f"forget/{name}": result} for model, result in results.items()})
    assert [line.over_unlearned for line in headline(run, defined=False)] == [expected]


def test_each_kind_of_probe_set_has_its_group(make_run: MakeRun) -> None:
    run = read_run(make_run())
    aims = {"forget": "forget", "asked_otherwise": "transfer", "new": "injected", "maintain": "retain"}
    results = [Result(name, probe, 0.5, 0.4, 0.6, 9) for probe in aims for name in ("probability", "choice")]
    results += [Result(name, "", 0.5, 0.4, 0.6, 9) for name in ("counterfact_scores", "neighbourhood_score")]
    run = replace(run, aims=aims, results={"unlearned": {result.key: result for result in results}})
    assert [(line.group, line.title) for line in headline(run)] == [
        ("Forgetting", "Probability"),
        ("Forgetting", "Probability, asked_otherwise"),
        ("Forgetting", "Choice accuracy"),
        ("Forgetting", "Choice accuracy, asked_otherwise"),
        ("Editing", "Probability, new"),
        ("Editing", "Choice accuracy, new"),
        ("Editing", "ROME score S"),
        ("Editing", "Neighbourhood score"),
        ("Utility", "Probability, maintain"),
        ("Utility", "Choice accuracy, maintain"),
    ]


def test_what_no_model_has_is_named_apart(make_run: MakeRun) -> None:
    run = read_run(make_run(has_control=False))
    assert undefined(run) == {"Forget quality (p)": "no control model", "KS distance": "no control model"}
    assert "forget_quality" not in [line.key for line in headline(run)]


@pytest.mark.parametrize(
    ("value", "scale", "shown"),
    [
        (0.12345, "plain", "0.123"),
        (1.0, "plain", "1.000"),
        (0.0, "plain", "0.000"),
        (3.21e-13, "log", "3e-13"),
        (-0.0004, "plain", "−4e-04"),
        (12345.6, "plain", "12,346"),
        (38.04, "percent", "+38.0"),
        (-100.0, "percent", "−100.0"),
        (NAN, "plain", "–"),
    ],
)
def test_numbers(value: float, scale: str, shown: str) -> None:
    assert show(value, scale) == shown


def test_intervals() -> None:
    assert show_interval(Result("privleak", "forget", -3, -5, 1, 9), "percent") == "[−5.0, +1.0]"
    assert show_interval(Result("rouge", "forget", 0.5, NAN, NAN, 9)) == ""
