from __future__ import annotations

import math

import pytest
from scipy import stats

from unlearn.metrics.counterfact_scores import CounterFactScores


def asked(case: str, true: list[float], new: list[float]) -> dict[str, object]:
    """A prompt with the token log-probabilities of the true and of the new answer."""
    return {"answer": true, "perturbed": [new], "cluster": case, "eos": False}


SETS = {
    "forget": [asked("1", [-2], [-1]), asked("2", [-1, -3], [-3])],  # the mean, not the sum: -2 against -3
    "paraphrase": [
        asked("1", [-2], [-1]),
        asked("1", [-2], [-1, -1]),
        asked("2", [-1], [-0.5]),
        asked("2", [-1], [-4]),
    ],
    "neighbourhood": [
        asked("1", [-1], [-2]),
        asked("1", [-1], [-3]),
        asked("1", [-3], [-1]),
        asked("2", [-1], [-1]),  # a draw is no success
    ],
}


def p(logp: float) -> float:
    return math.exp(logp)


def test_by_hand(make_scores) -> None:
    found = {result.key: result for result in CounterFactScores()(make_scores(**SETS), {})}
    shares: dict[str, list[float]] = {"efficacy": [1, 0], "paraphrase": [1, 0.5], "neighbourhood": [2 / 3, 0]}
    magnitudes = {
        "efficacy": [p(-1) - p(-2), p(-3) - p(-2)],
        "paraphrase": [p(-1) - p(-2), (p(-0.5) - p(-1) + p(-4) - p(-1)) / 2],
        "neighbourhood": [(p(-1) - p(-2) + p(-1) - p(-3) + p(-3) - p(-1)) / 3, 0],
    }
    for name, items in shares.items():
        assert found[f"{name}_score"].items == pytest.approx(items)
        assert found[f"{name}_score"].value == pytest.approx(sum(items) / 2)  # over records, not over prompts
        assert found[f"{name}_magnitude"].items == pytest.approx(magnitudes[name])
    overall = found["counterfact_scores"]
    assert overall.value == pytest.approx(stats.hmean([0.5, 0.75, 1 / 3]))
    assert overall.n == 2
    assert overall.low <= overall.value <= overall.high


def test_a_score_of_zero_makes_s_zero(make_scores) -> None:
    [overall, *_] = CounterFactScores()(make_scores(**SETS | {"paraphrase": [asked("1", [-1], [-2])]}), {})
    assert overall.value == 0


def test_records_are_matched_by_name(make_scores) -> None:
    """A record without paraphrases is left out of theirs alone."""
    fewer = SETS | {"paraphrase": SETS["paraphrase"][2:]}
    found = {result.key: result for result in CounterFactScores()(make_scores(**fewer), {})}
    assert found["counterfact_scores"].value == pytest.approx(stats.hmean([0.5, 0.5, 1 / 3]))
    assert (found["paraphrase_score"].n, found["counterfact_scores"].n) == (1, 2)


def test_other_datasets_have_no_such_scores(make_scores) -> None:
    sets = dict(SETS)
    del sets["neighbourhood"]
    assert CounterFactScores()(make_scores(**sets), {}) == []
    del sets["paraphrase"]
    [overall, *_] = CounterFactScores()(make_scores(**sets, neighbourhood=SETS["neighbourhood"]), {})
    assert math.isnan(overall.value)
    assert overall.note == "no paraphrase prompts"
