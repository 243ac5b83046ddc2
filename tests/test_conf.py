"""Every file in conf/ composes into a valid experiment, and explains itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from unlearn.cli.catalog import header, print_catalog
from unlearn.cli.groups import config_dirs, groups
from unlearn.data.task import Example, Task
from unlearn.runtime.components import build, conf_dir

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.stages.experiment import Experiment

FILES = sorted(path for path in conf_dir().glob("*/*.yaml"))


def experiment(*overrides: str) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        built: Experiment = build(compose("config", overrides=list(overrides)))
    return built


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_choice_says_what_it_is_and_its_command_composes(path: Path) -> None:
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert len(comment[0]) > 10
    if path.parent.name != "prompt":  # a part of a model, not a choice of its own
        (command,) = (line.removeprefix("# unlearn run") for line in comment if line.startswith("# unlearn run"))
        experiment(*command.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_component_shows_all_of_its_fields(path: Path) -> None:
    node: Any = yaml.safe_load(path.read_text()) or {}
    node = node.get(path.stem, {}) if path.parent.name in ("metric", "attack") else node  # presets have no component
    if "_target_" not in node:
        return
    module, _, name = node["_target_"].rpartition(".")
    cls = getattr(__import__(module, fromlist=[name]), name)
    inherited = {
        entry.partition("@")[2].partition(":")[0] for d in node.get("defaults", ()) for entry in d if "@" in entry
    }
    shown = set(node) - {"_target_", "defaults"} | inherited
    assert {f.name for f in dataclasses.fields(cls)} == {key for key in shown if not key.startswith("_global_")}


def task(name: str, split: str) -> Task:
    row = (Example(("q",), ("a",)),)
    return Task(name, split, {"forget": row, "retain": row})


def test_published_checkpoints_follow_the_split() -> None:
    model = experiment("model=llama-3.2-1b-instruct").model
    assert model.published(task("tofu", "forget05"), "original") == "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"
    assert model.published(task("tofu", "forget05"), "control") == "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain95"
    assert model.published(task("authors", "forget05"), "original") is None
    assert experiment("model=qwen2.5-3b-instruct").model.published(task("tofu", "forget01"), "control") is None
    phi = experiment("model=phi-1.5", "model.control=org/mine").model
    assert phi.published(task("tofu", "forget10"), "control") == "org/mine"
    assert phi.published(task("tofu", "forget10"), "original") == "locuslab/tofu_ft_phi-1.5"


def test_the_catalog_lists_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    print_catalog(None)
    kinds = {line.partition(" ")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert {"methods", "localizers", "datasets", "models", "metrics", "trackers"} <= kinds
    assert all(header(path)[0] for choices in groups(config_dirs(None)).values() for path in choices.values())


def test_a_single_group_is_listed_with_its_papers(capsys: pytest.CaptureFixture[str]) -> None:
    print_catalog("localizers")
    lines = capsys.readouterr().out.splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("  wagle "))
    assert "arxiv.org/abs/2410.17509" in lines[place + 1]
