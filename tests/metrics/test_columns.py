from __future__ import annotations

import math

import numpy as np
import pytest

from unlearn.metrics.columns import answers, losses, row_means, without_eos


def test_row_means() -> None:
    means = row_means([np.array([1.0, 3.0]), np.empty(0), np.array([-4.0], dtype=np.float32)])
    assert means == pytest.approx([2, math.nan, -4], nan_ok=True)
    assert row_means([]).shape == (0,)


def test_only_eos_is_taken_off(make_scores) -> None:
    items = [{"answer": [-1, -2, -3]}, {"answer": [-4]}, {"answer": [-5, -6], "eos": False}]
    tokens = make_scores(forget=items)["tokens"]
    assert [values.tolist() for values in without_eos(tokens, "logp")] == [[-1, -2], [], [-5, -6]]


def test_losses_of_each_probe(make_scores) -> None:
    scores = make_scores(
        forget=[
            {"answer": [-1, -3], "paraphrase": [-4], "perturbed": [[-1], [-2, -4]]},
            {"answer": [-0.5]},
        ],
        world=[{"answer": [-2], "perturbed": [[-6]]}],
    )
    table = losses(scores, ["forget"])
    assert table.index.tolist() == [("forget", 0), ("forget", 1)]
    assert table["answer"].tolist() == [2, 0.5]
    assert table["paraphrase"].tolist() == pytest.approx([4, math.nan], nan_ok=True)
    assert table["perturbed"].tolist() == pytest.approx([2, math.nan], nan_ok=True)
    assert table["perturbed_sum"].tolist() == pytest.approx([math.exp(-1) + math.exp(-3), math.nan], nan_ok=True)
    assert table["perturbed_mean"].tolist() == pytest.approx([(math.exp(-1) + math.exp(-3)) / 2, math.nan], nan_ok=True)
    assert losses(scores, ["forget", "world"])["answer"].tolist() == [2, 0.5, 2]


def test_answers_of_a_role(make_scores) -> None:
    scores = make_scores(forget=[{"answer": [-1], "paraphrase": [-2]}], holdout=[{"answer": [-3]}])
    assert [logp.tolist() for logp in answers(scores, "forget")["logp"]] == [[-1]]
    assert answers(scores, "retain").empty
