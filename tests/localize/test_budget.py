"""Block scores, budgets and masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import RUN
from hypothesis import given
from hypothesis import strategies as st

from unlearn.localize.base import Localization
from unlearn.localize.budget import Block, BlockBudget, block_weights
from unlearn.localize.mechanisms.causal_tracing import CausalTracing
from unlearn.localize.no_localization import NoLocalization
from unlearn.localize.places.random_parts import RandomParts
from unlearn.models.layout import layout
from unlearn.models.mask import Mask
from unlearn.models.parameters import layer_of, module_type
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject

SIZES: dict[Block, int] = {("attention", 0): 30, ("mlp", 0): 60, ("attention", 1): 30, ("mlp", 1): 60}
SCORES: dict[Block, float] = {("attention", 0): -5.0, ("mlp", 0): 4.0, ("attention", 1): 1.0, ("mlp", 1): -3.0}


def chosen(**fields: Any) -> list[Block]:
    return BlockBudget(**fields).chosen(SCORES, SIZES, 1000)


def test_blocks_go_by_absolute_score_until_the_budget_is_reached() -> None:
    first, second, third, _ = sorted(SCORES, key=lambda block: -abs(SCORES[block]))
    assert chosen(parameters=30) == [first]
    assert chosen(parameters=31) == chosen(select=0.09) == [first, second]
    assert chosen(parameters=91) == chosen(count=3) == [first, second, third]
    assert chosen(parameters=99, overshoot="forbid") == [first, second]
    assert chosen(parameters=180) == chosen(parameters=180, overshoot="forbid")  # all of them, exactly
    assert chosen(parameters=60, overshoot="forbid") == [first, ("attention", 1)]  # smaller blocks fill it up


def test_budgets_that_cannot_be_met() -> None:
    with pytest.raises(UserError, match="the smallest has 30"):
        chosen(parameters=29, overshoot="forbid")
    with pytest.raises(UserError, match="5 blocks are wanted, but the model has 4"):
        chosen(count=5)
    for overshoot in ("allow", "forbid"):
        with pytest.raises(UserError, match=r"is 181 weights .* all of its 4 blocks have 180 \(0.18\)"):
            chosen(parameters=181, overshoot=overshoot)
    given: dict[str, Any] = {"parameters": 5, "count": 1, "match": NoLocalization()}
    for one, other in combinations(given, 2):
        for kind in (BlockBudget, RandomParts):
            with pytest.raises(ValueError, match="one budget"):
                kind(**{one: given[one], other: given[other]})


@pytest.mark.parametrize(("share", "total", "weights"), [(0.07, 100, 7), (0.07, 101, 8), (1e-9, 100, 1), (1.0, 3, 3)])
def test_a_share_is_rounded_up(share: float, total: int, weights: int) -> None:
    assert BlockBudget(select=share).weights(total) == RandomParts(select=share).weights(total) == weights


@dataclass(frozen=True)
class One:
    """Selects some weights of one matrix; a task without facts is not for it."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"facts"})

    weights: int

    def check(self, task: Task, setting: RunSetting) -> None:
        if not task.facts:
            raise UserError("no facts")

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        name, parameter = next(iter(subject.module.named_parameters()))
        bits = torch.zeros(parameter.numel(), dtype=torch.bool)
        bits[: self.weights] = True
        return Localization(Mask.of(subject.module, {name: bits.view(parameter.shape)}), {"seen": 7})


def test_a_baseline_takes_as_many_weights_as_another_localizer(subject: Subject, task: Task) -> None:
    """An MLP has 3 * 16 * 24 = 1152 weights: fewer need one of them; two are matched by two."""
    parts = layout(subject.module)
    scores = {block: np.array([1.0 + block[1]]) for block in block_weights(parts, subject.module)}
    for weights, number in ((700, 1), (1, 1)):
        blocks = BlockBudget(parts="mlps", match=One(weights))
        for found in (
            blocks.select_blocks(subject, task, 0, scores, {}, {}),
            RandomParts(match=One(weights)).localize(subject, task, 0),
        ):
            assert found.mask.selected == number * 1152
            assert found.numbers["budget"] == weights
            assert found.numbers["match.seen"] == 7
            assert found.numbers["budget_ratio"] == number * 1152 / weights
            assert found.masks["match"].selected == weights
    same = RandomParts(match=RandomParts(count=2, seed=5), seed=6).localize(subject, task, 0)
    assert same.mask.selected == 2 * 1152
    assert same.numbers["budget_ratio"] == 1
    with pytest.raises(UserError, match="to match selects no weights"):
        RandomParts(match=One(0)).localize(subject, task, 0)
    for localizer in (RandomParts(match=One(1)), BlockBudget(match=One(1)), CausalTracing(match=One(1))):
        with pytest.raises(UserError, match="no facts"):
            localizer.check(replace(task, facts=()), RUN)


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 500))
def test_any_budget(blocks: list[tuple[float, int]], budget: int) -> None:
    """Allowed to pass it, only the last block does; forbidden, none does and no block that is left would fit."""
    scores: dict[Block, float] = {("mlp", i): score for i, (score, _) in enumerate(blocks)}
    sizes: dict[Block, int] = {("mlp", i): size for i, (_, size) in enumerate(blocks)}
    if budget > sum(sizes.values()):
        with pytest.raises(UserError, match="all of its"):
            BlockBudget(parameters=budget).chosen(scores, sizes, 10**6)
        return
    taken = BlockBudget(parameters=budget).chosen(scores, sizes, 10**6)
    sums = list(accumulate(sizes[block] for block in taken))
    assert all(total < budget for total in sums[:-1])
    assert sums[-1] >= budget
    assert min(abs(scores[block]) for block in taken) >= max(
        (abs(scores[b]) for b in scores if b not in taken), default=0
    )
    if min(sizes.values()) <= budget:
        strict = BlockBudget(parameters=budget, overshoot="forbid").chosen(scores, sizes, 10**6)
        left = budget - sum(sizes[block] for block in strict)
        assert 0 <= left < min((sizes[block] for block in scores if block not in strict), default=left + 1)


def test_pooling() -> None:
    sites = np.array([3.0, -4.0, 0.0, 0.0])
    values = {how: BlockBudget(pooling=how).pooled(sites, 14) for how in ("sum", "mean_abs", "rms", "per_parameter")}
    assert values == {"sum": -1.0, "mean_abs": 1.75, "rms": 2.5, "per_parameter": 0.5}


def test_the_mask_holds_the_chosen_blocks_weights(subject: Subject, task: Task) -> None:
    parts = layout(subject.module)
    scores: dict[Block, np.ndarray] = {block: np.array([0.0]) for block in block_weights(parts, subject.module)}
    scores["mlp", 2], scores["attention", 1] = np.array([-2.0, -1.0]), np.array([-3.0, 1.0])
    scores["attention", 0] = np.array([9.0])
    found = BlockBudget(count=2).select_blocks(subject, task, 0, scores, {"facts": 3}, {})
    selected = {(layer_of(name), module_type(name)) for name, n in found.mask.counts.items() if n}
    assert selected == {*((0, kind) for kind in "qkvo"), *((2, kind) for kind in ("gate", "up", "down"))}
    table = found.tables["blocks"].frame
    assert set(zip(table["kind"], table["layer"], strict=True)) == set(scores)
    assert table["parameters"][table["selected"]].sum() == found.mask.selected == found.numbers["budget"]
    only = BlockBudget(parts="mlps", count=1).select_blocks(subject, task, 0, scores, {}, {})
    assert set(only.tables["blocks"].frame["kind"]) == {"mlp"}
