"""Requests are unlearned in order, each from what came of the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from helpers import SMALL
from hydra import compose, initialize_config_dir
from torch import Tensor
from toy_intervention import push

from unlearn.data.history import History, Training
from unlearn.data.task import Request, Task
from unlearn.models.interventions.base import interventions
from unlearn.models.loading import load, load_model
from unlearn.models.mask import Mask
from unlearn.report.tracking import Tracker
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.runtime.plugins import allowing
from unlearn.runtime.read import read_json
from unlearn.runtime.store import Built, Store, key_hash
from unlearn.stages import work
from unlearn.stages.references import Reference, references
from unlearn.stages.unlearn import UNLEARNED, check_method, original_of, unlearn
from unlearn.training.loop import train
from unlearn.training.objective import Side

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unlearn.methods.base import Work
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject
    from unlearn.stages.experiment import Experiment

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for SIGKILL."""


@dataclass(frozen=True)
class Pushes:
    """Pushes what mentions the first word of the request's first question; keeps what it was given to look at."""

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"forget", "reference"})
    sides: ClassVar[frozenset[Side]] = frozenset()
    given: ClassVar[list[tuple[str, int, str, int]]] = []
    """Of each request: variant and layers of the subject, and of the original that the work lends."""
    dies_at: int | None = None
    """At which request it is killed."""

    def cache_key(self) -> dict[str, Any]:
        """Return nothing: being killed changes no result."""
        return {}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse nothing."""

    def unlearn(self, subject: Subject, task: Task, work: Work) -> Subject:
        """Return the model with one layer more."""
        layers, original = count(subject.module), work.references.original()
        self.given.append((subject.variant, layers, original.variant, count(original.module)))
        if layers + 1 == self.dies_at:
            raise KilledError
        (first, *_) = subject.processor(task.examples("forget")[0].questions[0])["input_ids"]
        push(first, layer=layers, width=32).attach(subject.module)
        return subject


def count(module: Any) -> int:
    return len(list(interventions(module) or ()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def experiment(cache: Path, *overrides: str) -> Experiment:
    torch.set_num_threads(1)
    fixed = ("threads=1", "control_model=none", "evaluate=tokens", "train.evaluate_at=[]", "train.steps=4")
    mine = [*SMALL, f"cache={cache}", *fixed, *overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=mine))
    return made.for_device("cpu")


def in_two(task: Task) -> Task:
    """The task as two requests."""
    rows = task.sets["forget"]
    return replace(task, requests=(Request({"forget": rows[:3]}), Request({"forget": rows[3:]})))


def run(
    mine: Experiment, task: Task, folder: Path, mask: Mask | None = None, original: Reference | None = None
) -> list[Built]:
    known = {"original": original} if original else references(mine, task, CPU, 1)
    store = Store(folder, hashed=False, notify=lambda line: None)
    check_method(mine, task)
    return unlearn(mine, task, known, mask, store, CPU, Tracker())  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in load_model(str(folder)).named_parameters()}


def same(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


def killed_at(place: int) -> Callable[..., Any]:
    """Training that dies instead of its `place`-th call."""
    real, calls = train, iter(range(100))

    def dying(*args: Any, **options: Any) -> Any:
        if next(calls) == place:
            raise KilledError
        return real(*args, **options)

    return dying


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo", "grad_diff"])
def test_each_request_starts_from_what_came_of_the_one_before(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    mine = experiment(cache, f"method={method}")
    task = in_two(mine.dataset.load(0))
    (original,) = references(mine, task, CPU, 1).values()
    first, second = run(mine, task, tmp_path / "two")
    assert first.folder == tmp_path / "two/requests/1/unlearned"
    assert second.folder == tmp_path / "two/unlearned"
    (alone,) = run(mine, task.at(task.requests[0]), tmp_path / "one", original=original)
    assert alone.folder == tmp_path / "one/unlearned"
    assert same(first.folder, alone.folder)
    given = Reference(str(first.folder), {"path": "the first"})
    (alone,) = run(mine, task.at(task.requests[1]), tmp_path / "other", original=given)
    assert same(second.folder, alone.folder)
    assert not same(second.folder, first.folder)
    model, _ = load(tmp_path / "two/requests/1")
    assert all(torch.equal(p, weights(first.folder)[name]) for name, p in model.named_parameters())
    monkeypatch.setattr(work, "train", killed_at(1))
    with pytest.raises(KilledError):
        run(mine, task, tmp_path / "killed")
    assert not (tmp_path / "killed" / UNLEARNED).exists()
    monkeypatch.setattr(work, "train", killed_at(1))  # the first request is not unlearned again
    made = run(mine, task, tmp_path / "killed")
    assert [built.cached for built in made] == [True, False]
    assert same(made[-1].folder, second.folder)
    assert [built.cached for built in run(mine, task, tmp_path / "killed")] == [True, True]


@pytest.mark.slow
def test_the_mask_holds_for_all_requests(cache: Path, tmp_path: Path) -> None:
    mine = experiment(cache, "method=grad_diff", "localize=random")
    task = in_two(mine.dataset.load(0))
    (original,) = references(mine, task, CPU, 1).values()
    before = load_model(original.path)
    mask = Mask.where(before, lambda name: "layers.1.mlp" in name)
    made = run(mine, task, tmp_path, mask)
    changed = [
        {name for name, p in before.named_parameters() if not torch.equal(p, weights(built.folder)[name])}
        for built in made
    ]
    assert changed[0]
    assert changed[0] == changed[1]
    assert all("layers.1.mlp" in name for name in changed[1])


@pytest.mark.slow
def test_layers_accumulate(cache: Path, tmp_path: Path) -> None:
    Pushes.given.clear()
    mine = experiment(cache)
    task = in_two(mine.dataset.load(0))
    (original,) = references(mine, task, CPU, 1).values()
    with allowing(["toy_intervention"]):
        with pytest.raises(KilledError):
            run(replace(mine, method=Pushes(dies_at=2)), task, tmp_path)
        first, second = run(replace(mine, method=Pushes()), task, tmp_path)
        assert first.cached
        assert not second.cached
        assert Pushes.given == [("", 0, "", 0), *[("request-1", 1, "request-1", 1)] * 2]
        for built, layers in ((first, 1), (second, 2)):
            about = json.loads((built.folder / "model.json").read_text())
            assert (about["variant"], len(about["layers"])) == (f"request-{layers}", layers)
            assert about["base"] == original.path
            assert not list(built.folder.glob("model.safetensors"))
        loaded = [load(folder)[0] for folder in (tmp_path / "requests/1", tmp_path)]
        assert list(map(count, loaded)) == [1, 2]
        run(replace(mine, method=Pushes()), task, tmp_path / "straight")
        mine_, theirs = (load(folder)[0] for folder in (tmp_path, tmp_path / "straight"))
        for one, other in zip(interventions(mine_) or (), interventions(theirs) or (), strict=True):
            assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


@pytest.mark.slow
def test_the_key_covers_all_requests_and_tells_the_original(cache: Path, tmp_path: Path) -> None:
    mine = replace(experiment(cache), method=Pushes())
    task = in_two(mine.dataset.load(0))
    (original,) = references(mine, task, CPU, 1).values()
    rows = task.sets["forget"]
    with allowing(["toy_intervention"]):
        run(mine, task, tmp_path / "a")
        other = replace(task, requests=(Request({"forget": rows[:2]}), task.requests[1]))
        run(mine, other, tmp_path / "b")
        run(mine, task.at(task.requests[1]), tmp_path / "c", original=original)
    found = [read_json(tmp_path / name / "unlearned/manifest.json") for name in "abc"]
    assert len({one["key"] for one in found}) == 3
    mine_key = key_hash(original.key)
    assert all(key_hash(original_of(one["inputs"]["model"])) == mine_key for one in found)
    assert [key_hash(one["inputs"]["model"]) == mine_key for one in found] == [False, False, True]


def test_each_request_must_suit_the_method(cache: Path) -> None:
    mine = experiment(cache, "method=npo")
    whole = mine.dataset.load(0)
    sets = {name: rows for name, rows in whole.sets.items() if name != "retain"}
    lacking = replace(whole, sets=sets, history=History(Training(("forget",)), None))
    with pytest.raises(UserError, match=r"'method' \(NPO\) needs retain rows"):
        check_method(mine, in_two(lacking))
    check_method(mine, in_two(whole))
