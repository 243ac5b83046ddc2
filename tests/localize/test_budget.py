"""Block scores, budgets and masks."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.errors import UserError
from unlearn.localize.base import Subject
from unlearn.localize.budget import Block, BlockBudget, block_weights
from unlearn.models.layout import layout
from unlearn.models.parameters import layer_of, module_type

SIZES: dict[Block, int] = {("attention", 0): 30, ("mlp", 0): 60, ("attention", 1): 30, ("mlp", 1): 60}
SCORES: dict[Block, float] = {("attention", 0): -5.0, ("mlp", 0): 4.0, ("attention", 1): 1.0, ("mlp", 1): -3.0}


def chosen(**fields: object) -> list[Block]:
    return BlockBudget(**fields).chosen(SCORES, SIZES, 1000)  # type: ignore[arg-type]


def test_blocks_go_by_absolute_score_until_the_budget_is_reached() -> None:
    first, second, third, _ = sorted(SCORES, key=lambda block: -abs(SCORES[block]))
    assert chosen(parameters=30) == [first]
    assert chosen(parameters=31) == chosen(select=0.09) == [first, second]
    assert chosen(parameters=91) == chosen(count=3) == [first, second, third]
    assert chosen(parameters=99, overshoot="forbid") == [first, second]
    assert chosen(parameters=60, overshoot="forbid") == [first, ("attention", 1)]  # smaller blocks fill it up


def test_budgets_that_cannot_be_met() -> None:
    with pytest.raises(UserError, match="the smallest has 30"):
        chosen(parameters=29, overshoot="forbid")
    with pytest.raises(UserError, match="the model has 4"):
        chosen(count=5)
    with pytest.raises(ValueError, match="one budget"):
        BlockBudget(parameters=5, count=1)


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 500))
def test_any_budget(blocks: list[tuple[float, int]], budget: int) -> None:
    """Allowed to pass it, only the last block does; forbidden, none does and no block that is left would fit."""
    scores: dict[Block, float] = {("mlp", i): score for i, (score, _) in enumerate(blocks)}
    sizes: dict[Block, int] = {("mlp", i): size for i, (_, size) in enumerate(blocks)}
    taken = BlockBudget(parameters=budget).chosen(scores, sizes, 10**6)
    sums = list(accumulate(sizes[block] for block in taken))
    assert all(total < budget for total in sums[:-1])
    assert sums[-1] >= budget or len(taken) == len(scores)
    assert min(abs(scores[block]) for block in taken) >= max(
        (abs(scores[b]) for b in scores if b not in taken), default=0
    )
    if min(sizes.values()) <= budget:
        strict = BlockBudget(parameters=budget, overshoot="forbid").chosen(scores, sizes, 10**6)
        left = budget - sum(sizes[block] for block in strict)
        assert 0 <= left < min((sizes[block] for block in scores if block not in strict), default=left + 1)


def test_pooling() -> None:
    sites = np.array([3.0, -4.0, 0.0, 0.0])
    values = {how: BlockBudget(pooling=how).pooled(sites, 14) for how in ("sum", "mean_abs", "rms", "per_parameter")}  # type: ignore[arg-type]
    assert values == {"sum": -1.0, "mean_abs": 1.75, "rms": 2.5, "per_parameter": 0.5}


def test_the_mask_holds_the_chosen_blocks_weights(subject: Subject) -> None:
    parts = layout(subject.model)
    scores: dict[Block, np.ndarray] = {block: np.array([0.0]) for block in block_weights(parts, subject.model)}
    scores["mlp", 2], scores["attention", 1] = np.array([-2.0, -1.0]), np.array([-3.0, 1.0])
    scores["attention", 0] = np.array([9.0])
    found = BlockBudget(count=2).located(subject, parts, scores, {"facts": 3}, {})
    selected = {(layer_of(name), module_type(name)) for name, n in found.mask.counts.items() if n}
    assert selected == {*((0, kind) for kind in "qkvo"), *((2, kind) for kind in ("gate", "up", "down"))}
    table = found.tables["blocks"]
    assert set(zip(table["kind"], table["layer"], strict=True)) == set(scores)
    assert table["parameters"][table["selected"]].sum() == found.mask.selected == found.numbers["budget"]
    only = BlockBudget(parts="mlps", count=1).located(subject, parts, scores, {}, {})
    assert set(only.tables["blocks"]["kind"]) == {"mlp"}
