"""All MLPs: what fact lookup and causal tracing pick from, whatever the weights are called."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from families import FAMILIES, family

from unlearn.localize.places.all_mlps import AllMLPs
from unlearn.localize.places.parts import mlps
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject


@pytest.mark.parametrize("name", FAMILIES)
def test_the_union_of_the_layers_mlps(subject: Subject, name: str, task: Task) -> None:
    model = family(name)
    subject = replace(subject, module=model)
    located = AllMLPs().localize(subject, task, 0)
    chosen = {name for name, value in located.mask.tensors.items() if value is True}
    assert chosen == {name for part in mlps(model) for name in part}
    assert located.numbers["selected"] == located.mask.selected == sum(located.mask.counts.values())
    one = AllMLPs(layers=(1,)).localize(subject, task, 0)
    assert {name for name, value in one.mask.tensors.items() if value is True} == set(mlps(model)[1])


def test_unknown_layers(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match="has 7: the model has layers 0 to 2"):
        AllMLPs(layers=(0, 7)).localize(subject, task, 0)
