from __future__ import annotations

from typing import TYPE_CHECKING

from plain_gradients import assert_highest, mean, row_gradients

from unlearn.localize.weights.gradient import Gradient

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_half_of_the_weights_by_gradient(subject: Subject, task: Task) -> None:
    localizer = Gradient()
    forget = mean(row_gradients(subject.module, localizer.forget_rows(subject, task, 0)))
    assert_highest(localizer.localize(subject, task, 0).mask, forget, 0.5)


def test_refusals_instead_of_answers(subject: Subject, task: Task) -> None:
    localizer = Gradient(select=0.1, forget_loss="refusal", seed=2)
    rows = localizer.forget_rows(subject, task, 0)
    assert str(subject.processor.decode(list(rows[0].ids))).endswith(("No idea.<eos>", "I do not know.<eos>"))
    located = localizer.localize(subject, task, 0)
    assert_highest(located.mask, mean(row_gradients(subject.module, rows)), 0.1)
    assert located.mask.digest != Gradient(select=0.1, seed=2).localize(subject, task, 0).mask.digest
