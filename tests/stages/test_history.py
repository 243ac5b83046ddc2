"""Original and control models come about as the task's history says."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import Tensor, nn

from unlearn.data.history import FORGET_AND_RETAIN, KNOWN, History, Training, Until
from unlearn.data.task import Ask, Example, Passage, ProbeSet, Question, Role, Row, Task
from unlearn.families.pretrained import PretrainedLM
from unlearn.families.tiny import TinyLM
from unlearn.recipe import Recipe
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.pipeline import run
from unlearn.stages.prepare import Learning, fit, has_control, model_key, run_setting, trained
from unlearn.stages.references import references
from unlearn.training.checkpoint import discard
from unlearn.training.supervised import Answers, plan_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.policy import Policy
    from unlearn.stages.experiment import Experiment
    from unlearn.training.objective import Objective

CPU = torch.device("cpu")
SHORT = ("train.steps=1", "attack=none")
SMALL = ("hidden=32", "layers=1", "heads=2", "mlp=32", "vocabulary=300")
TEXTS = tuple(Passage(f"Bob number {i} was born in {1900 + i}, they say.") for i in range(6))
CORRUPTED = History(
    original=Training(("forget",), start="control", recipe=Recipe(lr=1e-2, batch_size=2, steps=3)),
    control=Training(()),
)
PROBES = (ProbeSet("forget", "forget", (Question("When was Bob born?", "1900"),), max_new_tokens=2),)
TUNING = (ProbeSet("tuning", "forget", (Question("When, again?", "1901"),), max_new_tokens=2),)
TASK = Task("corrupted", "all", {"forget": TEXTS}, PROBES, validation=TUNING, history=CORRUPTED)


@dataclass(frozen=True)
class Given:
    """A dataset that is one task."""

    task: ClassVar[Task] = TASK

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return it."""
        return self.task


def experiment(folder: Path, *more: str) -> Experiment:
    overrides = [*(f"model.{shape}" for shape in SMALL), f"cache={folder}", "threads=1", "tracker=none", *more]
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
    assert len(history) == 3
    assert json.loads((Path(found["control"].path) / "history.json").read_text()) == []
    assert found["original"].key["start"] == found["control"].key == model_key(mine, TASK, "control")
    assert found["original"].key == model_key(mine, TASK, "original")


def test_validation_rows_are_never_reported(tmp_path: Path) -> None:
    """Not in a score table, nor in metrics, nor in the report, of a run from end to end."""
    import pandas as pd

    mine = experiment(tmp_path / "cache", f"output={tmp_path / 'run'}", "method=grad_ascent", *SHORT)
    folder = run(mine, {"seed": 0}, {})
    tables = {path: pd.read_parquet(path) for path in sorted((folder / "scores").rglob("*.parquet"))}
    assert {path.parent.name for path in tables} == {"original", "control", "unlearned"}
    for table in tables.values():
        assert "tuning" not in set(table["probe"])
        assert not any("When, again?" in str(value) for value in table.to_numpy().ravel())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {row["probe"] for rows in metrics.values() for row in rows} <= {"forget", ""}
    for name in ("metrics.json", "report.html", "report.md", "run.json"):
        text = (folder / name).read_text()
        assert text, name
        assert "When, again?" not in text, name
        assert "tuning" not in text.replace("fine-tuning", ""), name
    assert "When was Bob born?" in (folder / "report.html").read_text()  # what is no validation row is there


def test_what_is_trained_on_nothing_is_its_start(tmp_path: Path) -> None:
    learned = Training(("forget",), recipe=CORRUPTED.original.recipe)
    same = History(original=Training((), start="control"), control=learned)
    mine, task = experiment(tmp_path), replace(TASK, history=same)
    original, control = (trained(mine, task, role, CPU) for role in ("original", "control"))
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
    assert has_control(mine, TASK)
    assert not has_control(mine, alone)
    assert not has_control(replace(mine, control_model="none"), TASK)
    assert run_setting(mine, alone).control is False
    assert run_setting(mine, TASK).source is None


def test_a_pretrained_model_may_know_the_task_already(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    known = replace(TASK, pretrained=KNOWN)
    family = PretrainedLM(path="org/model", prompt=mine.model.prompt, finetune=mine.model.finetune)
    assert family.published(known, "original") == "org/model"
    assert family.published(known, "control") is None
    assert not has_control(replace(mine, model=family), known)
    assert has_control(mine, known)
    assert isinstance(mine.model, TinyLM)  # which knows nothing, and is taught it
    assert family.published(TASK, "control") == "org/model"
    assert family.published(TASK, "original") is None


def test_questions_and_passages_are_learned_together(tmp_path: Path) -> None:
    mixed: dict[str, tuple[Row, ...]] = {"forget": TEXTS[:2], "retain": (Example(("Who?",), ("Bob.",)),)}
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
    assert 4 <= easy <= hard < 40
    assert easy % 4 == hard % 4 == 0
    assert steps(1.0) == 40


@pytest.mark.parametrize("role", ["original", "control"])
def test_a_model_that_is_there_is_not_made_again(tmp_path: Path, role: Role) -> None:
    mine = experiment(tmp_path)
    trained(mine, TASK, role, CPU)
    (*_, stage) = trained(mine, TASK, role, CPU).stages
    assert stage.cached


@dataclass(frozen=True)
class Backwards(TinyLM):
    """A family that learns its texts backwards, and says how it is run."""

    ran: ClassVar[list[nn.Module]] = []

    def objective(self, rows: Sequence[Row], processor: Any, recipe: Recipe, seed: int) -> Objective:
        """Return the objective of the reversed texts."""
        texts = [row.text[::-1] for row in rows if isinstance(row, Passage)]
        return Answers(plan_answers(texts, processor, self.prompt, recipe, seed))

    def policy(self, module: Any) -> Policy:
        """Return the usual one."""
        self.ran.append(module)
        return super().policy(module)


def test_a_family_brings_its_own_objective_and_policy(tmp_path: Path) -> None:
    mine = experiment(tmp_path)
    plain = mine.model
    assert isinstance(plain, TinyLM)
    own = Backwards(**{field.name: getattr(plain, field.name) for field in fields(plain)})
    backwards = tuple(Passage(text.text[::-1]) for text in TEXTS)
    recipe = Recipe(lr=1e-2, batch_size=2, steps=2, epochs=None)
    trained_ones = []
    for family, rows in ((own, TEXTS), (plain, backwards), (plain, TEXTS)):
        module, tokenizer = plain.start(TASK, 0)
        fit(replace(mine, model=family), module, tokenizer, Learning(rows, recipe=recipe), "", tmp_path)
        discard(tmp_path)
        trained_ones.append(module)
    assert Backwards.ran == trained_ones[:1]
    by_family, by_rows, forwards = (module.state_dict() for module in trained_ones)
    assert all(torch.equal(by_family[name], by_rows[name]) for name in by_rows)
    assert any(not torch.equal(by_family[name], forwards[name]) for name in forwards)


@pytest.mark.parametrize("family", [TinyLM, PretrainedLM])
def test_a_raised_version_of_a_family_is_another_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: type[TinyLM | PretrainedLM]
) -> None:
    tiny = experiment(tmp_path).model
    mine = tiny if family is TinyLM else PretrainedLM(tiny.prompt, tiny.finetune, "org/base")
    before = mine.key(TASK)
    assert mine.key(TASK) == before
    monkeypatch.setattr(family, "version", 2)
    assert mine.key(TASK) != before


@dataclass(frozen=True)
class Texts:
    """Passages alone: nothing is asked."""

    task: ClassVar[Task] = Task("texts", "all", {"forget": TEXTS[:3], "retain": TEXTS[3:]}, history=FORGET_AND_RETAIN)

    def load(self, seed: int, ask: Ask | None = None) -> Task:
        """Return it."""
        return self.task


@pytest.mark.parametrize("method", ["grad_diff", "rmu"])
def test_a_task_of_passages_alone_is_run_to_the_end(tmp_path: Path, method: str) -> None:
    """Nothing is asked, so tables and metrics are empty; the report is written all the same."""
    import pandas as pd

    from unlearn.score.table import COLUMNS

    fixed = (f"output={tmp_path / 'run'}", f"method={method}", "model.finetune.epochs=1", "evaluate=full", *SHORT)
    mine = replace(experiment(tmp_path / "cache", *fixed), dataset=Texts())
    folder = run(mine, {"seed": 0}, {})
    tables = {path: pd.read_parquet(path) for path in sorted((folder / "scores").rglob("*.parquet"))}
    assert len(tables) == 9
    for path, table in tables.items():
        assert len(table) == 0
        assert list(table.columns) == COLUMNS[path.stem]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {"original", "control", "unlearned"}
    assert all(row["value"] is None for rows in metrics.values() for row in rows)
    for page in ("report.html", "report.md"):
        assert "the task has no questions: nothing was asked" in (folder / page).read_text()
    start = trained(mine, mine.dataset.load(0), "original", CPU)
    assert any(
        not torch.equal(value, weights(start.path)[name])
        for name, value in load_file(folder / "unlearned" / "model.safetensors").items()
    )
