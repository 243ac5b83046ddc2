from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from unlearn.localize.places.attention import Attention
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


@pytest.mark.parametrize("layers", [None, (2, 0)])
def test_the_projections_and_nothing_else(subject: Subject, layers: Any, task: Task) -> None:
    located = Attention(layers=layers).localize(subject, task, 0)
    chosen = {name for name, value in located.mask.tensors.items() if value is True}
    wanted = range(3) if layers is None else layers
    assert chosen == {f"model.layers.{i}.self_attn.{p}_proj.weight" for i in wanted for p in "qkvo"}
    assert located.numbers["selected"] == located.mask.selected == len(wanted) * 16 * (16 + 8 + 8 + 16)


@pytest.mark.parametrize(
    ("layers", "message"), [(nn.ModuleList([nn.Linear(2, 2)]), "no weights of attention"), (None, "no decoder layers")]
)
def test_a_model_that_is_not_understood(subject: Subject, layers: Any, message: str, task: Task) -> None:
    strange: Any = nn.Linear(2, 2)
    strange.layers = layers
    with pytest.raises(UserError, match=message):
        Attention().localize(replace(subject, module=strange), task, 0)
