from __future__ import annotations

import pytest

from unlearn.recipe import Recipe
from unlearn.runtime.components import build
from unlearn.runtime.errors import UserError


def test_schedule_by_hand() -> None:
    linear = Recipe(lr=1, steps=10, warmup=0.2, final_lr=0.1)
    assert [linear.lr_factor(s, 10) for s in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert linear.lr_factor(6, 10) == pytest.approx(0.1 + 0.9 * 0.5)
    cosine = Recipe(lr=1, steps=10, schedule="cosine")
    assert cosine.lr_factor(5, 10) == pytest.approx(0.5)
    assert Recipe(lr=1, steps=10, schedule="constant").lr_factor(9, 10) == 1


def test_length_is_given_once() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Recipe(lr=1)
    with pytest.raises(ValueError, match="exactly one"):
        Recipe(lr=1, steps=1, epochs=1)


def test_curve_points_leave_out_start_and_end() -> None:
    assert Recipe(lr=1, steps=8, evaluate_at=(0.01, 0.5, 1.0)).evaluation_steps(8) == {4}
    assert Recipe(lr=1, steps=8, evaluate_every=3).evaluation_steps(8) == {3, 6}


def test_logistics_are_no_part_of_the_cache_key() -> None:
    assert (
        Recipe(lr=1, steps=8).cache_key() == Recipe(lr=1, steps=8, evaluate_every=3, checkpoint_seconds=1).cache_key()
    )
    assert Recipe(lr=1, steps=8).cache_key() != Recipe(lr=2, steps=8).cache_key()


def test_more_steps_than_any_machine_could_do_are_refused() -> None:
    with pytest.raises(UserError, match=r"'train\.steps' is 99999999999"):
        build({"_target_": "unlearn.recipe.Recipe", "steps": 99999999999}, "train")
