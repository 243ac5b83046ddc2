from __future__ import annotations

import pytest

from unlearn.data.task import Example, Passage, Task
from unlearn.methods.base import SEGMENTS, Method, check_needs
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.inject import Inject
from unlearn.methods.po import PO
from unlearn.models import batches
from unlearn.runtime.errors import UserError

SETS = {
    "forget": (Example(("q",), ("a",)),),
    "retain": (Example(("r",), ("s",)),),
    "refusal": (Example(("q",), ("no",)),),
    "injected": (Example(("q",), ("b",)),),
    "fluency": (Passage("text"),),
}
TASK = Task("toy", "all", SETS, beside={"refusal": "forget", "injected": "forget"})


def without(name: str) -> Task:
    return Task("toy", "all", {key: rows for key, rows in SETS.items() if key != name})


@pytest.mark.parametrize(
    ("method", "lacks", "words"),
    [
        (PO(), "refusal", "trains on refusals, but dataset 'toy' has none"),
        (Inject(), "injected", "injected answers, but dataset 'toy'"),
        (Inject(), "fluency", "fluency text, but dataset 'toy'"),
    ],
)
def test_what_a_dataset_lacks_is_named(method: Method, lacks: str, words: str) -> None:
    check_needs(method, TASK)
    check_needs(GradDiff(), without(lacks))
    with pytest.raises(UserError, match=words):
        check_needs(method, without(lacks))


def test_what_weighs_nothing_is_not_needed() -> None:
    check_needs(Inject(fluency_weight=0), without("fluency"))


def test_batches_know_every_segment() -> None:
    assert set(SEGMENTS.values()) == set(batches.SEGMENTS)
