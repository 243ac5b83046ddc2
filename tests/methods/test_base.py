from __future__ import annotations

from dataclasses import replace

import pytest

from unlearn.data.task import Example, Task
from unlearn.methods.base import SEGMENTS, check_needs
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.inject import Inject
from unlearn.methods.po import PO
from unlearn.models import batches
from unlearn.runtime.errors import UserError

EDITED = Example(("q",), ("a",), injected="b")
TASK = Task("toy", "all", (EDITED,), (Example(("r",), ("s",)),), (), refusals=("no",), fluency=("text",))


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        (PO(), {"refusals": ()}, "trains on refusals, but dataset 'toy' has none"),
        (Inject(), {"forget": (EDITED, replace(EDITED, injected=None))}, "injected answers, but dataset 'toy'"),
        (Inject(), {"fluency": ()}, "fluency text, but dataset 'toy'"),
    ],
)
def test_what_a_dataset_lacks_is_named(method, change, words: str) -> None:
    check_needs(method, TASK)
    check_needs(GradDiff(), replace(TASK, **change))
    with pytest.raises(UserError, match=words):
        check_needs(method, replace(TASK, **change))


def test_what_weighs_nothing_is_not_needed() -> None:
    check_needs(Inject(fluency_weight=0), replace(TASK, fluency=()))


def test_batches_know_every_segment() -> None:
    assert set(SEGMENTS.values()) == set(batches.SEGMENTS)
