"""A family of any kind of model goes through preparing and unlearning by its own reader and writer alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import Tensor
from toy_family import LETTERS, Ascend, Letters
from transformers import PreTrainedModel

from unlearn.data.history import History, Training
from unlearn.data.task import Passage, Task
from unlearn.models.mask import Mask
from unlearn.recipe import Recipe
from unlearn.report.tracking import Tracker
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.store import Store
from unlearn.stages.prepare import trained
from unlearn.stages.references import Reference
from unlearn.stages.unlearn import check_method, unlearn
from unlearn.training.adamw import AdamW
from unlearn.training.loop import _Training

if TYPE_CHECKING:
    from collections.abc import Callable

    from unlearn.stages.experiment import Experiment

CPU = torch.device("cpu")
TASK = Task(
    "letters", "all", {"forget": (Passage("abab"), Passage("cdc"))}, history=History(Training(("forget",)), None)
)
TRAIN = Recipe(lr=0.1, steps=6, epochs=None, checkpoint_seconds=0, warmup=0.0)


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.fixture(autouse=True)
def _no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("no model of transformers is saved")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", refuse)


def experiment(cache: Path) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=[f"cache={cache}", "tracker=none", "threads=1"]))
    mine = replace(made, model=Letters(TRAIN), method=Ascend(), train=TRAIN, update=AdamW())
    return mine.for_device("cpu")


def weights(cache: Path, output: Path, mask: Callable[[Any], Mask] | None = None) -> tuple[Tensor, Tensor]:
    """The table before and after unlearning."""
    mine = experiment(cache)
    check_method(mine, TASK)
    made = trained(mine, TASK, "original", CPU)
    known: Any = {"original": Reference(made.path, made.key)}
    selected = mask(mine.model.load(made.path).module) if mask else None
    store = Store(output, hashed=False, notify=lambda line: None)
    (built,) = unlearn(mine, TASK, known, selected, store, CPU, Tracker())
    before, after = (load_file(Path(str(folder)) / "letters.safetensors") for folder in (made.path, built.folder))
    loaded: Any = mine.model.load(str(built.folder)).module
    assert torch.equal(loaded.logits, after["logits"])
    return before["logits"], after["logits"]


def test_it_learns_unlearns_and_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = weights(tmp_path / "a", tmp_path / "x")
    a, b = LETTERS.index("a"), LETTERS.index("b")
    assert before[a].argmax() == b
    assert after[a, b] < before[a, b]

    save = _Training._save

    def dying(self: _Training, step: int, log: Any) -> None:
        save(self, step, log)
        if step == 3:
            raise KilledError

    monkeypatch.setattr(_Training, "_save", dying)
    for _ in range(2):  # once in the training of the original, once in unlearning
        with pytest.raises(KilledError):
            weights(tmp_path / "b", tmp_path / "y")
    resumed = weights(tmp_path / "b", tmp_path / "y")
    assert torch.equal(resumed[0], before)
    assert torch.equal(resumed[1], after)


def test_under_a_mask_the_rest_stays(tmp_path: Path) -> None:
    a = LETTERS.index("a")
    bits = torch.zeros(len(LETTERS), len(LETTERS), dtype=torch.bool)
    bits[a] = True
    before, after = weights(tmp_path / "a", tmp_path / "x", lambda table: Mask.of(table, {"logits": bits}))
    assert torch.equal(before[~bits], after[~bits])
    assert not torch.equal(before[a], after[a])
