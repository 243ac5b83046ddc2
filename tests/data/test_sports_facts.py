from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from unlearn.data.history import KNOWN
from unlearn.data.sports_facts import PLAYED, SPORTS, TABLE, SportsFacts, athletes_in
from unlearn.data.task import COMPLETION, Task
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ATHLETES = athletes_in(TABLE)
SPORT = {row.athlete: row.sport for row in ATHLETES}


def load(**fields: object) -> Task:
    return SportsFacts(**({"max_forget": None, "max_maintain": None} | fields)).load(0)  # type: ignore[arg-type]


def names(rows: Sequence) -> list[str]:
    return list(dict.fromkeys(row.cluster for row in rows))


def test_the_table_is_the_published_one(data: Path) -> None:
    with (data / "sports_facts.csv").open(newline="", encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    columns = ("athlete", "sport", "inject_sport_without_golf", "inject_sport_with_golf")
    assert [tuple(row[column] for column in columns) for row in published] == ATHLETES


@pytest.mark.parametrize("split", ["first_16", "first_64", "random_16", "random_64"])
def test_the_published_splits_of_athletes(data: Path, split: str) -> None:
    """`forget_splits` lists the splits of a row; a random one with the row's place in it."""
    place: dict[int, str] = {}
    with (data / "sports_facts.csv").open(newline="", encoding="utf-8") as file:
        for i, row in enumerate(csv.DictReader(file)):
            for entry in filter(None, row["forget_splits"].split(";")):
                name, _, k = entry.partition(":")
                if name == split:
                    place[int(k) if k else i] = row["athlete"]
    task = load(split=split)
    assert names(task.examples("forget")) == [place[k] for k in sorted(place)]
    for probe_set in ("forget", "injected", "paraphrase", "forget_choice", "injected_choice"):
        assert names(task.probe_set(probe_set).probes) == names(task.examples("forget"))


@pytest.mark.parametrize(
    ("split", "sizes"),
    [("first_64", (64, 64, 1196, 299)), ("random_16", (16, 16, 1234, 309)), ("basketball", (245, 245, 855, 214))],
)
def test_sizes_and_order(split: str, sizes: tuple[int, ...]) -> None:
    task = load(split=split, inject="golf")
    asked, maintained = names(task.probe_set("forget").probes), names(task.probe_set("maintain").probes)
    assert (len(task.examples("forget")), len(asked), len(task.examples("retain")), len(maintained)) == sizes
    forgotten = {*names(task.examples("forget")), *asked}
    assert names(task.examples("retain")) + maintained == [
        row.athlete for row in ATHLETES if row.athlete not in forgotten
    ]
    if split in PLAYED:
        assert names(task.examples("forget")) + asked == [row.athlete for row in ATHLETES if row.sport == split]


def test_limits() -> None:
    task = load(split="football", inject="golf", max_retain=7, max_forget=3, max_maintain=2, facts=5)
    sizes = {probe_set.name: len(probe_set.probes) for probe_set in task.probes}
    assert sizes == {
        **{"forget": 3, "injected": 3, "paraphrase": 3, "maintain": 2},
        **{"forget_choice": 12, "injected_choice": 12, "maintain_choice": 8},
    }
    assert (len(task.examples("forget")), len(task.examples("retain")), len(task.facts)) == (291, 7, 5)


@pytest.mark.parametrize("inject", ["wrong_sport", "with_golf", "golf"])
def test_what_is_injected_is_asked_and_is_wrong(inject: str) -> None:
    task = load(inject=inject)
    row = {athlete.athlete: athlete for athlete in ATHLETES}
    for example, probe in zip(task.examples("injected"), task.probe_set("injected").probes, strict=True):
        of = row[example.cluster]
        expected = {"wrong_sport": of.inject, "with_golf": of.inject_golf, "golf": "golf"}[inject]
        assert example.answers == (probe.answer,) == (f" {expected}",) != (f" {of.sport}",)
        assert example.questions == (probe.question,)
    assert task.beside == {"injected": "forget"}


def test_the_roles_and_the_forms_of_the_question() -> None:
    task = load()
    assert {p.name: (p.aim, p.normalise, p.generate) for p in task.probes} == {
        "forget": ("forget", True, True),
        "injected": ("injected", True, True),
        "paraphrase": ("transfer", True, True),
        "maintain": ("retain", True, True),
        "forget_choice": ("transfer", True, False),
        "injected_choice": ("injected", True, False),
        "maintain_choice": ("retain", True, False),
    }
    assert (task.prompt, task.pretrained, load(pretrained=False).pretrained) == (COMPLETION, KNOWN, None)
    for probe_set in task.probes:
        for probe in probe_set.probes:
            assert probe.cluster in probe.question
            assert not probe.question.endswith(" ")
            if probe_set.generate:
                assert {probe.answer, *probe.perturbed_answers} == {f" {sport}" for sport in SPORTS}
                assert probe.answer == f" {probe.value}"
    for plain, other in zip(task.probe_set("forget").probes, task.probe_set("paraphrase").probes, strict=True):
        assert plain.paraphrased_question == other.question != plain.question
        assert plain.answer == other.answer


@pytest.mark.parametrize(("probe_set", "wanted"), [("forget_choice", "forget"), ("injected_choice", "injected")])
def test_multiple_choice_asks_for_the_same_answer(probe_set: str, wanted: str) -> None:
    task = load()
    answer = {probe.cluster: probe.value for probe in task.probe_set(wanted).probes}
    for probe in task.probe_set(probe_set).probes:
        shown = dict(line.split(". ") for line in probe.question.split("\n")[-5:-1])
        assert shown[probe.answer.strip()] == answer[probe.cluster]


def test_facts_are_labelled_by_sport() -> None:
    task = load(facts=500)
    assert [fact.entity for fact in task.facts] == [row.athlete for row in ATHLETES[:500]]
    for fact in task.facts:
        assert fact.answer == f" {fact.label}" == f" {SPORT[fact.entity]}"
        assert {fact.answer, *fact.foils} == {f" {sport}" for sport in PLAYED}


def knows(*known: str):
    """A model that knows these athletes and thinks that all others play golf."""

    def ask(pairs: Sequence[tuple[str, str]]) -> list[float]:
        found = []
        for prompt, answer in pairs:
            name = prompt.split("Athlete: ")[-1].split("\n")[0]
            believed = SPORT[name] if name in known else "golf"
            found.append(0.3 if answer == f" {believed}" else 0.05)
        return found

    return ask


def test_only_what_the_model_knows() -> None:
    some = [row.athlete for row in ATHLETES[100:130]]
    task = SportsFacts(split="first_16", known=0.6, facts=3).load(0, knows(*some))  # 0.3 of 0.45 in all
    assert names(task.examples("forget")) == some[:16]
    assert names(task.examples("retain")) == some[16:27]
    assert names(task.probe_set("maintain").probes) == some[27:]
    assert [fact.entity for fact in task.facts] == some[:3]
    with pytest.raises(UserError, match=r"16 athletes to forget and 1 others are too few.*known=0\.6"):
        SportsFacts(split="first_16", known=0.6).load(0, knows(*some[:17]))
    with pytest.raises(UserError, match="too few"):
        SportsFacts(known=0.7).load(0, knows(*some))
    with pytest.raises(UserError, match="no model to ask"):
        SportsFacts(known=0.6).load(0)


def test_the_true_sport_is_not_injected() -> None:
    with pytest.raises(UserError, match=r"dataset\.inject' is 'football', the true sport of 31 of the 64"):
        load(inject="football")
    with pytest.raises(UserError, match="true sport of 583 of the 583"):
        load(split="football", inject="football")


def test_unknown_splits_and_files_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown split 'frist_64'.*did you mean 'first_64'"):
        SportsFacts(split="frist_64")
    with pytest.raises(UserError, match=r"dataset\.fluency"):
        SportsFacts(fluency="./nowhere.txt")


def test_the_configuration_file_holds_the_defaults() -> None:
    node = OmegaConf.load(conf_dir() / "dataset" / "sports_facts.yaml")
    assert build(node, "dataset") == SportsFacts()
    for key, value in {"inject": "cricket", "known": 1.5, "max_maintain": 0}.items():
        with pytest.raises(UserError, match=rf"dataset\.{key}"):
            build(OmegaConf.merge(node, {key: value}), "dataset")
