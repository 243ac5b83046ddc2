"""Whoever is handed a model of a run knows its variant, and can take its layers off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from bigram import random_llama, tokenizer
from hydra import compose, initialize_config_dir
from toy_intervention import push

from unlearn.data.history import KNOWN
from unlearn.data.task import Task
from unlearn.models.interventions.base import interventions
from unlearn.models.loading import save_model
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.plugins import allowing
from unlearn.stages import attack
from unlearn.stages.references import Reference
from unlearn.stages.score import score_reference
from unlearn.stages.subjects import load_subject
from unlearn.stages.work import UnlearningWork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject
    from unlearn.runtime.explained import Explained
    from unlearn.score.base import Progress
    from unlearn.stages.experiment import Experiment

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Keeps:
    """A scorer that keeps whom it was handed."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[frozenset[str]] = frozenset()
    along: ClassVar[bool] = False
    seen: ClassVar[list[Subject]] = []

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def score(
        self, subject: Subject, task: Task, references: References, progress: Progress | None = None
    ) -> Mapping[str, Explained]:
        """Keep it."""
        self.seen.append(subject)
        return {}


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    with allowing(["toy_intervention"]):
        yield


@pytest.fixture
def experiment() -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=["tracker=none"]))
    return made.for_device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A layered model, the second of a row of requests."""
    save_model(random_llama(3), tokenizer(), tmp_path / "base")
    model = random_llama(3)
    push(2).attach(model)
    save_model(model, tokenizer(), tmp_path / "mine", base=str(tmp_path / "base"), variant="request-2")
    return tmp_path / "mine"


def whole(subject: Subject, folder: Path) -> bool:
    assert interventions(subject.module) is not None
    bare = subject.stripped()
    assert interventions(bare.module) is None
    return (subject.variant, subject.base) == ("request-2", str(folder.parent / "base"))


def test_a_loaded_subject_is_whole(experiment: Experiment, folder: Path) -> None:
    assert whole(load_subject(experiment, str(folder), "unlearned", CPU), folder)
    half = load_subject(experiment, str(folder), "unlearned", CPU, torch.bfloat16)
    assert half.module.dtype == torch.bfloat16
    plain = load_subject(experiment, str(folder.parent / "base"), "original", CPU)
    assert (plain.role, plain.variant, plain.base) == ("original", "", None)
    assert plain.stripped() is plain


def test_scorers_attacks_and_methods_are_handed_it(experiment: Experiment, folder: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    Keeps.seen.clear()
    task = Task("nothing", "all", {}, history=KNOWN)
    mine = replace(experiment, evaluate={"keeps": Keeps()})
    score_reference(mine, task, str(folder), "unlearned", CPU, tmp_path / "scores")
    attacked = attack.AttackedModel("unlearned", str(folder), {}, str(folder.parent / "base"))
    work = UnlearningWork(mine, {"original": Reference(str(folder), {})}, None, tmp_path / "out", CPU)
    found = [*Keeps.seen, attack._load(mine, attacked, CPU), work.subject()]
    assert [whole(subject, folder) for subject in found] == [True] * 3
