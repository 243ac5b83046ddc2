from __future__ import annotations

from typing import TYPE_CHECKING

from plain_gradients import assert_highest

from unlearn.localize.weights.magnitude import Magnitude

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_the_largest_weights(subject: Subject, task: Task) -> None:
    located = Magnitude(select=0.3).localize(subject, task, 0)
    assert_highest(located.mask, dict(subject.module.named_parameters()), 0.3)
