"""Training on top of a model in layers (base, adapter, intervention) goes on where it was killed, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bigram import PROMPT, WORDS, random_llama, tokenizer
from helpers import SMALL
from hydra import compose, initialize_config_dir
from torch import Tensor
from toy_intervention import push

from unlearn.data.task import Example, Passage, Rows, Task
from unlearn.models import layered
from unlearn.models.interventions.base import interventions
from unlearn.models.loading import load_model, save_model
from unlearn.models.lora import Lora
from unlearn.report.tracking import Tracker
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.plugins import allowing
from unlearn.runtime.store import Store
from unlearn.score.residuals import last_residuals
from unlearn.stages.references import Reference
from unlearn.stages.unlearn import unlearn
from unlearn.training.loop import _Training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unlearn.stages.experiment import Experiment

CPU = torch.device("cpu")
FORGET: Rows = (*(Example((f"{x} b",), (f"c {x}",)) for x in "adef"), Passage("a b c d e f", spans=((4, 7),)))
RETAIN = tuple(Example((f"{x} b",), (f"d {x}",)) for x in "ghij")
TASK = Task("toy", "all", {"forget": FORGET, "retain": RETAIN})


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    with allowing(["toy_intervention"]):
        yield


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A model folder of three layers, whose adapter does something."""
    save_model(random_llama(1), tokenizer(), tmp_path / "base")
    adapted: Any = Lora(rank=2, targets=("q_proj", "v_proj")).attach(random_llama(1))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted.save_pretrained(tmp_path / "adapter")
    held = [push(WORDS.index("a"))]
    layered.write(tmp_path / "original", str(tmp_path / "base"), held, [tmp_path / "adapter"])
    return tmp_path / "original"


def experiment(cache: Path, *overrides: str) -> Experiment:
    training = ("train.steps=6", "train.batch_size=2", "train.lr=1e-2", "train.checkpoint_seconds=0")
    fixed = ("threads=1", "control_model=none", "train.evaluate_at=[]", f"cache={cache}", *training)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=[*SMALL, *fixed, *overrides]))
    return replace(made.for_device("cpu"), model=replace(made.model, prompt=PROMPT))  # type: ignore[type-var]


def run(original: Path, folder: Path, *overrides: str) -> tuple[dict[str, Tensor], Any]:
    """The result's weights and the result, loaded."""
    known: Any = {"original": Reference(str(original), {"model": "layered"})}
    store = Store(folder / "out", hashed=False, notify=lambda line: None)
    (built,) = unlearn(experiment(folder / "cache", *overrides), TASK, known, None, store, CPU, Tracker())
    model = load_model(str(built.folder))
    return {name: p.detach() for name, p in model.named_parameters()}, model


@pytest.mark.parametrize("overrides", [("method=finetune",), ("method=npo", "update=gradient_surgery")], ids=str)
def test_a_killed_training_on_layers_goes_on(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    given = {name: p.detach() for name, p in load_model(str(original)).named_parameters()}
    straight, model = run(original, tmp_path / "a", *overrides)
    assert len(list(interventions(model) or ())) == 1
    assert any(not torch.equal(weight, given[name]) for name, weight in straight.items())

    save = _Training._save

    def dying(self: _Training, step: int, log: Any) -> None:
        save(self, step, log)
        if step == 3:
            raise KilledError

    monkeypatch.setattr(_Training, "_save", dying)
    with pytest.raises(KilledError):
        run(original, tmp_path / "b", *overrides)
    resumed, again = run(original, tmp_path / "b", *overrides)  # begun anew, it would die again
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    prompts = [[WORDS.index("a"), 2], [WORDS.index("g"), 2]]
    assert torch.equal(last_residuals(model, prompts, 64), last_residuals(again, prompts, 64))
