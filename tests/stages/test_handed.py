"""Every kind of component is handed what it declares in `reads`, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from beside import beside
from helpers import SMALL
from hydra import compose, initialize_config_dir

from unlearn.attacks.base import AttackResult, Outcome, Threat
from unlearn.data.narrowing import UndeclaredReadError
from unlearn.data.task import Task
from unlearn.localize.base import Localization
from unlearn.localize.combine import Union
from unlearn.models.mask import Mask
from unlearn.models.subject import References, Subject
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.attack import _attempt, _items, _setting
from unlearn.stages.score import score, score_key
from unlearn.stages.work import UnlearningWork

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.models.base import RunSetting
    from unlearn.runtime.explained import Explained
    from unlearn.stages.experiment import Experiment

SUBJECT: Any = SimpleNamespace(role="unlearned", module=torch.nn.Linear(2, 2))


def experiment(cache: Path, *overrides: str) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=[*SMALL, f"cache={cache}", *overrides]))
    return made


@dataclass(frozen=True)
class Looks:
    """An attack, a scorer and a localizer in one: it looks at one thing."""

    declares: frozenset[str]
    look: Callable[[Task, References], object]

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "test"
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[str, ...]] = ("looks",)
    along: ClassVar[bool] = False

    @property
    def reads(self) -> frozenset[str]:
        return self.declares

    def cache_key(self) -> dict[str, Any]:
        return {"declares": sorted(self.declares)}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Look at the task alone."""
        self.look(task, BOTH)

    def attack(self, subject: Subject, setting: Any, references: References) -> AttackResult:
        import numpy as np

        self.look(setting.task, references)
        return AttackResult([Outcome("looked", np.ones(len(setting.held_out_items)))])

    def score(self, subject: Subject, task: Task, references: References, progress: Any = None) -> dict[str, Explained]:
        self.look(task, references)
        return {}

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        self.look(task, BOTH)
        return Localization(Mask.where(subject.module, lambda name: True), {}, {})


BOTH = beside(SUBJECT, SUBJECT)


def original(task: Task, references: References) -> object:
    return references.original()


def control(task: Task, references: References) -> object:
    return references.control()


def retain(task: Task, references: References) -> object:
    return task.rows("retain")


LOOKS = pytest.mark.parametrize(
    ("look", "part"),
    [(original, "reference"), (control, "control"), (retain, "retain")],
    ids=["original", "control", "retain rows"],
)


def test_references_are_those_that_are_read() -> None:
    assert BOTH.only({"reference"}).original() is SUBJECT
    assert BOTH.only({"control"}).control() is SUBJECT
    assert beside(SUBJECT).only({"control"}).control() is None
    for references, part in ((BOTH.only({"control"}), "reference"), (BOTH.only(()), "reference")):
        with pytest.raises(UndeclaredReadError, match=f"'{part}'"):
            references.original()
    with pytest.raises(UndeclaredReadError, match="'control'"):
        BOTH.only({"reference", "probes"}).control()


@LOOKS
def test_an_attack(look: Any, part: str, tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    task = mine.dataset.load(0)
    key = SimpleNamespace(key={"path": "a model"}, role="unlearned", base=None)
    loaded: Any = SimpleNamespace(
        subject=SUBJECT, models=key, original=key, control=key, references=BOTH, forget=lambda: None
    )
    setting = _setting(mine, task, _items(mine, task))
    blind, seeing = (Looks(frozenset({"probes", *more}), look) for more in ((), (part,)))
    run, _ = _attempt(mine, "looks", blind, loaded, setting)
    assert run.status == "error"
    assert run.reason.startswith(f"UndeclaredReadError: the component reads '{part}'")
    run, _ = _attempt(mine, "looks", seeing, loaded, setting)
    assert run.status == "ok"


@LOOKS
def test_a_scorer(look: Any, part: str, tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    task = mine.dataset.load(0)
    blind, seeing = (Looks(frozenset({"probes", *more}), look) for more in ((), (part,)))
    with pytest.raises(UndeclaredReadError, match=f"'{part}'"):
        score({"looks": blind}, SUBJECT, task, BOTH)
    assert score({"looks": seeing}, SUBJECT, task, BOTH) == {}
    if part == "retain":
        return
    for scorer, alike in ((blind, True), (seeing, False)):  # what it reads is in its key
        of = replace(mine, evaluate={"looks": scorer})
        one, other = ({"reference": name, "control": name} for name in "ab")
        keys = [score_key(of, task, {"path": "a model"}, models) for models in (one, other)]
        assert (keys[0] == keys[1]) == alike


def test_localizers_and_those_within_them(tmp_path: Path) -> None:
    task = experiment(tmp_path).dataset.load(0)
    blind, seeing = (Looks(frozenset({"forget", *more}), retain) for more in ((), ("retain",)))
    setting: Any = None
    for localizer in (Union(blind, seeing), Union(seeing, blind)):
        read = task.only(localizer.reads)
        assert read.rows("retain")  # of the one, which makes it no part of the other
        with pytest.raises(UndeclaredReadError, match="'retain'"):
            localizer.localize(SUBJECT, read, 0)
        with pytest.raises(UndeclaredReadError, match="'retain'"):
            localizer.check(read, setting)
    both = Union(seeing, seeing)
    assert both.localize(SUBJECT, task.only(both.reads), 0).mask.fraction == 1


@pytest.mark.parametrize(
    ("part", "look"),
    [
        ("reference", lambda work: work.references.original()),
        ("reference", lambda work: work.reference_policy()),
        ("reference", lambda work: work.reference_nll([], [])),
        ("control", lambda work: work.references.control()),
        ("mask", lambda work: work.mask),
        ("recipe", lambda work: work.recipe),
        ("lora", lambda work: work.lora),
        ("update", lambda work: work.train(SUBJECT, SimpleNamespace(steps=1))),
    ],
)
def test_a_method(part: str, look: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = experiment(tmp_path)
    monkeypatch.setattr(UnlearningWork, "_load", lambda self, role: SUBJECT)
    everything = frozenset({"reference", "control", "mask", "recipe", "lora", "update"})
    known: Any = {role: SimpleNamespace(path=role, key={}) for role in ("original", "control")}

    def work(reads: frozenset[str]) -> UnlearningWork:
        method: Any = SimpleNamespace(reads=reads)
        return UnlearningWork(replace(mine, method=method), known, None, tmp_path, torch.device("cpu"))

    with pytest.raises(UndeclaredReadError, match=f"'{part}'"):
        look(work(everything - {part}))
    declared = work(everything)
    assert declared.recipe == mine.train
    assert declared.mask is None
    assert declared.lora is None
    assert declared.references.original() is SUBJECT
    assert declared.references.control() is SUBJECT
