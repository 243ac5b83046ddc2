"""Masks of masks, through localizers that give masks known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import pytest
import torch
from helpers import RUN

from unlearn.localize.base import Localization
from unlearn.localize.combine import Complement, Intersection, Union
from unlearn.localize.from_file import FromFile
from unlearn.localize.no_localization import NoLocalization
from unlearn.models.mask import Mask
from unlearn.models.subject import Subject
from unlearn.runtime.components import build, cache_key
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting


@dataclass(frozen=True)
class Rows:
    """Selects the first `count` rows of a 4 x 2 matrix; a task without a name is not for it."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    count: int

    def check(self, task: Any, setting: RunSetting) -> None:
        if not task:
            raise UserError("no task")

    def localize(self, subject: Any, task: Any, seed: int) -> Localization:
        bits = torch.zeros(4, 2, dtype=torch.bool)
        bits[: self.count] = True
        table = Explained(pd.DataFrame({"rows": [self.count]}), "Rows", "How many.")
        return Localization(Mask.of(subject.module, {"weight": bits}), {"rows": float(self.count)}, {"rows": table})


@pytest.fixture
def subject() -> Subject:
    model: Any = torch.nn.Linear(2, 4, bias=False)
    nothing: Any = None
    return Subject("original", model, nothing, nothing, 100)


def rows(located: Localization) -> list[bool]:
    return located.mask.bits("weight")[:, 0].tolist()


def test_sets(subject: Subject, task: Task) -> None:
    one, three = Rows(1), Rows(3)
    both = Intersection(one, three).localize(subject, task, 0)
    assert rows(both) == [True, False, False, False]
    assert both.numbers == {
        "iou": pytest.approx(1 / 3),
        "first.rows": 1,
        "second.rows": 3,
        "first.fraction": 0.25,
        "second.fraction": 0.75,
    }
    assert both.masks["second"].selected == 6
    assert rows(Union(one, three).localize(subject, task, 0)) == [True, True, True, False]
    assert rows(Complement(three).localize(subject, task, 0)) == [False, False, False, True]
    nested = Intersection(three, Complement(one))
    assert rows(nested.localize(subject, task, 0)) == [False, True, True, False]
    assert NoLocalization().localize(subject, task, 0).mask.fraction == 1


def test_no_table_is_lost(subject: Subject, task: Task) -> None:
    inner = Union(Rows(1), Rows(2))
    for combination, expected in (
        (inner, {"rows": 1, "second_rows": 2}),
        (Union(inner, Rows(3)), {"rows": 1, "second_rows": 2, "second_second_rows": 3}),
        (Union(Rows(3), Complement(inner)), {"rows": 3, "second_rows": 1, "second_second_rows": 2}),
    ):
        tables = combination.localize(subject, task, 0).tables
        assert sorted(table.frame["rows"].item() for table in tables.values()) == sorted(expected.values())
        assert tables.keys() == expected.keys()
        assert tables["rows"].frame["rows"].item() == expected["rows"]


class Nothing(tuple[()]):
    """No task, of which nothing is read."""

    def only(self, reads: object) -> Nothing:
        return self


def test_each_part_is_checked() -> None:
    nothing: Any = Nothing()
    for combination in (Union(NoLocalization(), Rows(1)), Intersection(Rows(1), NoLocalization()), Complement(Rows(1))):
        with pytest.raises(UserError, match="no task"):
            combination.check(nothing, RUN)


def test_cache_keys_tell_combinations_apart() -> None:
    assert cache_key(Union(Rows(1), Rows(2))) != cache_key(Intersection(Rows(1), Rows(2)))
    assert cache_key(Union(Rows(1), Rows(2))) != cache_key(Union(Rows(2), Rows(1)))


def test_a_part_that_is_no_localizer_is_refused() -> None:
    node = {
        "_target_": "unlearn.localize.combine.Complement",
        "of": {"_target_": "unlearn.recipe.Recipe", "lr": 1.0, "steps": 1},
    }
    with pytest.raises(UserError, match=r"'of._target_' is .*a Localizer is wanted"):
        build(node)


def test_a_saved_mask_and_the_run_that_has_it(subject: Subject, tmp_path: Path, task: Task) -> None:
    mask = Rows(2).localize(subject, task, 0).mask
    mask.save(tmp_path / "run" / "localize" / "mask.safetensors")
    for path in (tmp_path / "run", tmp_path / "run" / "localize", tmp_path / "run" / "localize" / "mask.safetensors"):
        localizer = FromFile(str(path))
        nothing: Any = None
        localizer.check(nothing, RUN)
        assert localizer.localize(subject, task, 0).mask.digest == mask.digest
    assert cache_key(FromFile(str(tmp_path / "run"))) == cache_key(localizer)  # what counts is what is in it


def test_a_mask_that_is_not_there_or_not_this_models(subject: Subject, tmp_path: Path, task: Task) -> None:
    nothing: Any = None
    with pytest.raises(UserError, match=r"'localize.path' is .*there is no mask"):
        FromFile(str(tmp_path / "none")).check(nothing, RUN)
    other: Any = torch.nn.Linear(3, 4, bias=False)
    Mask.where(other, lambda name: True).save(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=r"made for another model: 'weight' is \[4, 3\] in the mask and \[4, 2\]"):
        FromFile(str(tmp_path / "m.safetensors")).localize(subject, task, 0)
