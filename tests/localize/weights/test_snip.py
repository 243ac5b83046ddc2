from __future__ import annotations

from typing import TYPE_CHECKING

from plain_gradients import assert_highest, mean, row_gradients

from unlearn.localize.weights.snip import Snip

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_weight_times_gradient(subject: Subject, task: Task) -> None:
    localizer = Snip(select=0.25, seed=5)
    forget = mean(row_gradients(subject.module, localizer.forget_rows(subject, task, 0)))
    scores = {name: parameter * forget[name] for name, parameter in subject.module.named_parameters()}
    assert_highest(localizer.localize(subject, task, 0).mask, scores, 0.25)
