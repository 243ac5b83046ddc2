from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from unlearn.data.history import History, Training
from unlearn.data.task import Example, Passage, Row, Task
from unlearn.methods.finetune import Finetune
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.inject import Inject
from unlearn.methods.po import PO
from unlearn.models.base import RunSetting
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.methods.gradient import GradientMethod

SETS: dict[str, tuple[Row, ...]] = {
    "forget": (Example(("q",), ("a",)),),
    "retain": (Example(("r",), ("s",)),),
    "refusal": (Example(("q",), ("no",)),),
    "injected": (Example(("q",), ("b",)),),
    "fluency": (Passage("text"),),
}
TASK = Task("toy", "all", SETS, beside={"refusal": "forget", "injected": "forget"})
SETTING = RunSetting("text", None, control=True, masked=False, lora=False)


def without(name: str) -> Task:
    return Task("toy", "all", {key: rows for key, rows in SETS.items() if key != name})


@pytest.mark.parametrize(("method", "lacks"), [(PO(), "refusal"), (Inject(), "injected"), (Inject(), "fluency")])
def test_what_a_dataset_lacks_is_named(method: GradientMethod, lacks: str) -> None:
    method.check(TASK.only(method.reads), SETTING)
    GradDiff().check(without(lacks), SETTING)
    with pytest.raises(UserError, match=f"needs {lacks} rows, but dataset 'toy' has none"):
        method.check(without(lacks).only(method.reads), SETTING)


def test_forget_rows_are_needed_where_passes_over_them_are_counted() -> None:
    sets = {"retain": SETS["retain"]}
    alone = Task("toy", "all", sets, history=History(Training(("retain",)), None)).only(Finetune().reads)
    Finetune().check(alone, SETTING)
    with pytest.raises(UserError, match="needs forget rows, but dataset 'toy' has none"):
        Finetune().check(alone, replace(SETTING, epochs=True))


def test_what_weighs_nothing_is_not_needed() -> None:
    Inject(fluency_weight=0).check(without("fluency"), SETTING)
