"""Plain training belongs to a side."""

from __future__ import annotations

import pytest
import torch
from helpers import encode
from stub_policy import StubPolicy, step

from unlearn.data.task import Example
from unlearn.recipe import Recipe
from unlearn.training.objective import FORGET, RETAIN, SIDES, Side
from unlearn.training.plan import Plan, plan_training
from unlearn.training.supervised import Answers


@pytest.mark.parametrize("side", ["forget", "retain"])
def test_the_term_is_of_the_side(side: Side) -> None:
    policy, batch = StubPolicy(torch.tensor([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]])), step({"rows": [2, 1]})
    mine, other = (FORGET, RETAIN) if side == "forget" else (RETAIN, FORGET)
    for only in (mine, SIDES):
        (term,) = Answers(Plan(), side).loss(policy, batch, only).terms.values()
        assert term.side == side
        assert term.value.item() == pytest.approx(9 / 3)
    assert not Answers(Plan(), side).loss(policy, batch, other).terms


def test_rows_of_no_set_are_the_segment_rows() -> None:
    plan = plan_training([Example(("a",), ("b",))], encode, Recipe(lr=1, steps=2), 0)
    assert plan.steps == [{"rows": [0]}] * 2
