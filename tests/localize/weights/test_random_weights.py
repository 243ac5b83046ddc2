from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unlearn.localize.weights.random_weights import RandomWeights

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


def test_as_many_in_every_tensor_but_for_chance(subject: Subject, task: Task) -> None:
    mask = RandomWeights(select=0.3).localize(subject, task, 0).mask
    for name, shape in mask.shapes.items():
        count = torch.Size(shape).numel()
        assert abs(mask.share(name) - 0.3) < 5 * (0.3 * 0.7 / count) ** 0.5, name  # five standard deviations


def test_by_seed_alone(subject: Subject, task: Task) -> None:
    """Not by the global state, nor by what was drawn before; smaller masks lie within larger ones."""
    first = RandomWeights(select=0.3).localize(subject, task, 0).mask
    state = torch.get_rng_state()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = RandomWeights(select=0.3, seed=0).localize(subject, task, 0).mask
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    assert again.digest == first.digest
    other = RandomWeights(select=0.3).localize(subject, task, 1).mask
    assert abs(first.iou(other) - 0.09 / 0.51) < 0.05
    assert (first & RandomWeights(select=0.6).localize(subject, task, 0).mask).digest == first.digest
