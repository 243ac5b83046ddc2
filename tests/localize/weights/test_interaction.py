from __future__ import annotations

from typing import TYPE_CHECKING

from plain_gradients import assert_highest, mean, row_gradients

from unlearn.localize.weights.interaction import Interaction

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_the_product_of_both_gradients(subject: Subject, task: Task) -> None:
    localizer = Interaction(select=0.25, retain_samples=2, seed=5)
    forget = mean(row_gradients(subject.module, localizer.forget_rows(subject, task, 0)))
    retain = mean(row_gradients(subject.module, localizer.retain_rows(subject, task, 0)))
    assert_highest(
        localizer.localize(subject, task, 0).mask, {name: forget[name] * retain[name] for name in forget}, 0.25
    )
