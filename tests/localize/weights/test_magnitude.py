from __future__ import annotations

from plain_gradients import assert_highest

from unlearn.localize.base import Subject
from unlearn.localize.weights.magnitude import Magnitude


def test_the_largest_weights(subject: Subject) -> None:
    located = Magnitude(select=0.3).localize(subject)
    assert_highest(located.mask, dict(subject.module.named_parameters()), 0.3)
