from __future__ import annotations

from plain_gradients import assert_highest, mean, row_gradients

from unlearn.localize.base import Subject
from unlearn.localize.weights.interaction import Interaction


def test_the_product_of_both_gradients(subject: Subject) -> None:
    localizer = Interaction(select=0.25, retain_samples=2, seed=5)
    forget = mean(row_gradients(subject.module, localizer.forget_rows(subject)))
    retain = mean(row_gradients(subject.module, localizer.retain_rows(subject)))
    assert_highest(localizer.localize(subject).mask, {name: forget[name] * retain[name] for name in forget}, 0.25)
