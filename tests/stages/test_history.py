"""Original and control models come about as the task's history says."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import Tensor

from unlearn.data.history import KNOWN, History, Training, Until
from unlearn.data.task import Ask, Example, Passage, Probe, ProbeSet, Task
from unlearn.models.pretrained import PretrainedLM
from unlearn.models.tiny import TinyLM
from unlearn.recipe import Recipe
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.experiment import Experiment
from unlearn.stages.prepare import has_control, model_key, run_setting, trained
from unlearn.stages.references import references

CPU = torch.device("cpu")
SMALL = ("hidden=32", "layers=1", "heads=2", "mlp=32", "vocabulary=300")
TEXTS = tuple(Passage(f"Bob number {i} was born in {1900 + i}, they say.") for i in range(6))
CORRUPTED = History(
    original=Training(("forget",), start="control", recipe=Recipe(lr=1e-2, batch_size=2, steps=3)),
    control=Training(()),
)
PROBES = (ProbeSet("forget", "forget", (Probe("When was Bob born?", "1900"),), max_new_tokens=2),)
TUNING = (ProbeSet("tuning", "forget", (Probe("When, again?", "1901"),), max_new_tokens=2),)
TASK = Task("corrupted", "all", {"forget": TEXTS}, PROBES, validation=TUNING, history=CORRUPTED)


@dataclass(frozen=True)
class Given:
    """A dataset that is one task."""

    task: ClassVar[Task] = TASK

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return it."""
        return self.task


def experiment(folder: Path) -> Experiment:
    overrides = [*(f"model.{shape}" for shape in SMALL), f"cache={folder}", "threads=1"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        made: Experiment = build(compose("config", overrides=overrides))
    return replace(made.for_device("cpu"), dataset=Given())


def weights(path: str) -> dict[str, Tensor]:
    return load_file(Path(path) / "model.safetensors")


def test_a_corrupted_model_is_trained_on_from_the_clean_one(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    found = references(mine, TASK, CPU, 1)
    assert set(found) == {"original", "control"}
    family = mine.model
    start = family.start(TASK, mine.seed).module.state_dict()
    clean, corrupted = (weights(found[role].path) for role in ("control", "original"))
    assert all(torch.equal(clean[name], start[name]) for name in clean)
    assert not torch.equal(clean["model.layers.0.mlp.up_proj.weight"], corrupted["model.layers.0.mlp.up_proj.weight"])
    history = json.loads((Path(found["original"].path) / "history.json").read_text())
    assert len(history) == 3 and json.loads((Path(found["control"].path) / "history.json").read_text()) == []
    assert found["original"].key["start"] == found["control"].key == model_key(mine, TASK, "control")
    assert found["original"].key == model_key(mine, TASK, "original")


def test_validation_rows_are_in_no_score_table(tmp_path: Path) -> None:
    import pandas as pd

    found = references(experiment(tmp_path), TASK, CPU, 1)
    for reference in found.values():
        tables = [pd.read_parquet(path) for path in sorted(reference.scores.glob("*.parquet"))]
        assert len(tables) == 3 and len(tables[0]) + len(tables[1]) + len(tables[2]) > 0
        for table in tables:
            assert "tuning" not in set(table["probe"])
            assert not any("When, again?" in str(value) for value in table.to_numpy().ravel())


def test_what_is_trained_on_nothing_is_its_start(tmp_path: Path) -> None:
    learned = Training(("forget",), recipe=CORRUPTED.original.recipe)
    same = History(original=Training((), start="control"), control=learned)
    mine, task = experiment(tmp_path), replace(TASK, history=same)
    original, control = (trained(mine, task, role, CPU) for role in ("original", "control"))  # type: ignore[arg-type]
    assert (original.path, original.key) == (control.path, control.key)


def test_own_recipes_count(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    longer = replace(CORRUPTED.original, recipe=Recipe(lr=1e-2, batch_size=2, steps=4))
    other = replace(TASK, history=replace(CORRUPTED, original=longer))
    assert model_key(mine, other, "original") != model_key(mine, TASK, "original")
    assert model_key(mine, other, "control") == model_key(mine, TASK, "control")


def test_who_has_a_control(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    alone = replace(TASK, history=History(Training(("forget",)), None))
    assert has_control(mine, TASK) and not has_control(mine, alone)
    assert not has_control(replace(mine, control_model="none"), TASK)
    assert run_setting(mine, alone).control is False and run_setting(mine, TASK).source is None


def test_a_pretrained_model_may_know_the_task_already(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    known = replace(TASK, pretrained=KNOWN)
    family = PretrainedLM("org/model", mine.model.prompt, mine.model.finetune)
    assert family.published(known, "original") == "org/model" and family.published(known, "control") is None
    assert not has_control(replace(mine, model=family), known)
    assert has_control(mine, known) and isinstance(mine.model, TinyLM)  # which knows nothing, and is taught it
    assert family.published(TASK, "control") == "org/model" and family.published(TASK, "original") is None


def test_questions_and_passages_are_learned_together(tmp_path: Path) -> None:
    mixed = {"forget": TEXTS[:2], "retain": (Example(("Who?",), ("Bob.",)),)}
    recipe = Recipe(lr=1e-2, batch_size=3, steps=1)
    history = History(Training(("retain", "forget"), recipe=recipe), Training(("retain",), recipe=recipe))
    model = trained(experiment(tmp_path), Task("mixed", "all", mixed, PROBES, history=history), "original", CPU)
    assert len(json.loads((Path(model.path) / "history.json").read_text())) == 1


def test_a_training_ends_when_the_model_answers_well_enough(tmp_path: Path) -> None:
    mine = experiment(tmp_path)

    def steps(probability: float) -> int:
        recipe = Recipe(lr=3e-2, batch_size=2, steps=40, schedule="constant")
        rule = Until("tuning", probability, every=4)
        told = {"forget": (Example(("When, again?",), ("1901",)),)}
        history = History(Training(("forget",), recipe=recipe, until=rule), None)
        task = Task("told", "all", told, PROBES, validation=TUNING, history=history)
        return len(json.loads((Path(trained(mine, task, "original", CPU).path) / "history.json").read_text()))

    easy, hard = steps(0.01), steps(0.5)
    assert 4 <= easy <= hard < 40 and easy % 4 == hard % 4 == 0
    assert steps(1.0) == 40


@pytest.mark.parametrize("role", ["original", "control"])
def test_a_model_that_is_there_is_not_made_again(tmp_path: Path, role: str) -> None:
    mine = experiment(tmp_path)
    trained(mine, TASK, role, CPU)  # type: ignore[arg-type]
    (*_, stage) = trained(mine, TASK, role, CPU).stages  # type: ignore[arg-type]
    assert stage.cached
