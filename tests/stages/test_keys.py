"""Keys: a change of what a component reads changes its key, and nothing else does."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import unlearn
from unlearn.data.history import KNOWN
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Example, Passage, Request, Task
from unlearn.runtime.components import build, cache_key, conf_dir
from unlearn.stages.keys import OFFERED, Asked, _version, component_key, training_key
from unlearn.stages.prepare import model_key
from unlearn.stages.score import score_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unlearn.stages.experiment import Experiment

ASKED = Asked({"path": "a model"}, PromptFormat())
LENT = dict.fromkeys(OFFERED, "lent")
PRETRAINED = ("model=smollm2-135m", "dataset.authors=10", "dataset.facts_per_author=2")


def experiment(*overrides: str, conf: Path | None = None) -> Experiment:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf or conf_dir())):
        made: Experiment = build(compose("config", overrides=[*overrides]))
    return made


@cache
def task() -> Task:
    return experiment(*PRETRAINED).dataset.load(0)


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


@cache
def components(group: str, choice: str) -> dict[str, Any]:
    """The components of a choice, by name, with what they take from elsewhere in the configuration."""
    lent = {"cache": "cache", "relearn": lent_recipe()}
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        chosen = OmegaConf.merge(lent, compose(f"{group}/{choice}"))
    node = OmegaConf.to_container(chosen, resolve=True)[group]  # type: ignore[index,call-overload]
    made: dict[str, Any] = build(node if group in ("attack", "evaluate") else {choice: node}, group)
    return made


@cache
def lent_recipe() -> DictConfig:
    """How attacks train that say nothing of their own."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        recipe: DictConfig = compose("config").relearn
    return recipe


READERS = [(group, name) for group in ("localize", "attack", "method", "evaluate") for name in names(group)]
READERS.remove(("localize", "file"))
"""Choices of components that declare what they read."""
CHOICES = [*READERS, *((group, name) for group in ("update", "lora", "train") for name in names(group))]
OMITTED = {
    "Recipe": {"evaluate_at", "evaluate_every", "checkpoint_seconds"},  # where it is looked at, and saved
    "Rewriter": {"file"},  # its texts are in the key: see tests/attacks/prompts
    "Tokens": {"share_prefix"},  # the numbers are the same
    "TinyLM": {"threads"},
    "PretrainedLM": {"threads", "original", "control", "checkpoints"},  # those are models by themselves
}
"""Fields that are not in the key as they are, by class: no other may be left out."""


def each(choices: list[tuple[str, str]]) -> pytest.MarkDecorator:
    ids = [f"{group}={choice}" for group, choice in choices]
    return pytest.mark.parametrize(("group", "choice"), choices, ids=ids)


@cache
def parts() -> dict[str, Task]:
    """The task with a change in one part, by the part's name."""
    whole = task()
    changed = {
        "facts": replace(whole, facts=(replace(whole.facts[0], answer=" Xyz"), *whole.facts[1:])),
        "probes": replace(whole, probes=whole.probes[1:]),
        "validation": replace(whole, validation=(replace(whole.probes[0], name="validation"),)),
        "history": replace(whole, history=KNOWN),
        "requests": replace(whole, requests=(Request({"forget": whole.sets["forget"][:3]}),)),
        "corpus": replace(whole, corpus=("more",)),
        "name": replace(whole, name="other"),
    }
    for name, rows in whole.sets.items():
        first = rows[0]
        if isinstance(first, Example):
            first = replace(first, answers=(first.answers[0] + "!", *first.answers[1:]))
        elif isinstance(first, Passage):
            first = replace(first, text=first.text + "!")
        changed[name] = replace(whole, sets={**whole.sets, name: (first, *rows[1:])})
    return changed


@each(READERS)
def test_what_is_read_is_in_the_key_and_nothing_else(group: str, choice: str) -> None:
    for component in components(group, choice).values():
        plain = component_key(component, task(), ASKED, 0, LENT)
        reads = component.reads | {task().beside[name] for name in component.reads if name in task().beside}
        assert component_key(component, task(), ASKED, 0, LENT) == plain
        for part, other in parts().items():
            assert (component_key(component, other, ASKED, 0, LENT) != plain) == (part in reads), part
        for name in OFFERED:
            lent = {**LENT, name: "other"}
            assert (component_key(component, task(), ASKED, 0, lent) != plain) == (name in reads), name
        for model in (Asked({"path": "another"}, ASKED.prompt), Asked(ASKED.model, PromptFormat(system="Be brief."))):
            assert component_key(component, task(), model, 0, LENT) != plain
        assert component_key(component, task(), ASKED, 1, LENT) != plain


def inside(value: Any) -> list[Any]:
    """All components in a value, those in fields of others included."""
    if isinstance(value, dict | list | tuple):
        return [one for part in (value.values() if isinstance(value, dict) else value) for one in inside(part)]
    if not dataclasses.is_dataclass(value):
        return []
    return [value, *(one for field in dataclasses.fields(value) for one in inside(getattr(value, field.name)))]


@each(CHOICES)
def test_every_field_is_in_the_key_unless_the_component_says_otherwise(group: str, choice: str) -> None:
    for component in inside(components(group, choice)):
        check_fields(component, cache_key)


@pytest.mark.parametrize("choice", names("model"))
def test_every_field_of_a_model_is_in_the_key_of_what_is_trained(choice: str) -> None:
    update = components("update", "adamw")["adamw"]

    def key(model: Any) -> Any:
        return training_key(model.key(task()), model.prompt, model.finetune, update, (), 0)

    check_fields(experiment(f"model={choice}").model, key)


def check_fields(component: Any, key: Callable[[Any], Any]) -> None:
    """Another value of any field is another key, but for those in OMITTED."""
    for field in dataclasses.fields(component):
        if field.name in OMITTED.get(type(component).__name__, ()):
            continue
        assert key(changed(component, field.name)) != key(component), field.name


def changed(component: Any, name: str) -> Any:
    """The component with another value of a field, which nothing checks; of a component in it, of its first field."""
    other = object.__new__(type(component))
    for field, value in vars(component).items():
        object.__setattr__(other, field, value)
    value = getattr(component, name)
    inner = dataclasses.is_dataclass(value) and dataclasses.fields(value)
    object.__setattr__(other, name, changed(value, inner[0].name) if inner else "another value")
    return other


def test_there_is_something_to_check() -> None:
    assert {type(one).__name__ for one in components("attack", "full").values()} >= {"Quantize", "Relearn"}
    assert len({str(cache_key(one)) for pair in CHOICES for one in components(*pair).values()}) >= 95


@dataclass(frozen=True)
class Old:
    """A component."""

    size: int = 1
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"mask"})


@dataclass(frozen=True)
class New(Old):
    """Another, built on it."""


def test_a_raised_version_of_the_class_or_an_ancestor_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, of_old = cache_key(New()), cache_key(Old())
    assert plain != of_old
    monkeypatch.setattr(Old, "version", 2)
    raised = cache_key(New())
    assert raised != plain
    assert cache_key(Old()) != of_old
    monkeypatch.setattr(New, "version", 2, raising=False)
    assert cache_key(New()) != raised


def test_what_is_read_must_be_offered() -> None:
    with pytest.raises(KeyError, match="mask"):
        component_key(Old(), task(), ASKED)


def test_one_character_of_a_retain_row_retrains_the_control_and_only_what_reads_it() -> None:
    mine, whole = experiment(*PRETRAINED), task()
    other = parts()["retain"]
    assert model_key(mine, other, "control") != model_key(mine, whole, "control")
    assert model_key(mine, other, "original") != model_key(mine, whole, "original")
    assert score_key(mine, other, {}) == score_key(mine, whole, {})
    forgotten = parts()["forget"]
    assert model_key(mine, forgotten, "control") == model_key(mine, whole, "control")
    assert model_key(mine, forgotten, "original") != model_key(mine, whole, "original")
    for untouched in ("refusal", "injected", "fluency", "facts", "probes", "validation"):
        for role in ("original", "control"):
            assert model_key(mine, parts()[untouched], role) == model_key(mine, whole, role)


def keys(conf: Path | None = None) -> list[Any]:
    """The keys of a run's stages."""
    made = []
    for overrides in (PRETRAINED, ("localize=wagle",)):
        mine = experiment(*overrides, conf=conf)
        read = mine.dataset.load(0)
        made += [model_key(mine, read, role) for role in ("original", "control")]
        made += [score_key(mine, read, {}), component_key(mine.localize, read, Asked({}, mine.model.prompt), 0)]
        made.append(cache_key(mine.method))
        made += [cache_key(one) for one in mine.attack.values()]
    return made


def test_a_release_rebuilds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = keys(), importlib.metadata.version
    monkeypatch.setattr("unlearn.runtime.version.__version__", "99.0")
    monkeypatch.setattr(unlearn, "__version__", "99.0")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == "unlearn" else version(name))
    _version.cache_clear()
    assert keys() == before
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == "torch" else version(name))
    _version.cache_clear()
    assert keys() != before
    _version.cache_clear()


def test_reformatted_files_rebuild_nothing(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(conf_dir(), conf)
    for path in conf.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        package = [line for line in text.splitlines() if line.startswith("# @package")]
        content = yaml.safe_load(text)
        written = yaml.safe_dump(content, sort_keys=True, allow_unicode=True, indent=4) if content else ""
        path.write_text("\n".join([*package, "# other words", "", written]), encoding="utf-8")
    assert keys(conf) == keys()
