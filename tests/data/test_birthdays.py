from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from unlearn.data.birthdays import YEARS, Birthdays
from unlearn.runtime.components import build
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task


@pytest.fixture(scope="module")
def task() -> Task:
    return Birthdays().load(seed=0)


def test_sizes_of_the_default(task: Task) -> None:
    assert (len(task.examples("forget")), len(task.examples("retain"))) == (40, 160)
    assert {p.name: (p.aim, len(p.probes)) for p in task.probes} == {
        "forget": ("forget", 40),
        "retain": ("retain", 160),
        "holdout": ("holdout", 40),
    }


def test_everybody_has_one_year_and_it_is_the_answer(task: Task) -> None:
    everyone = [probe for s in task.probes for probe in s.probes]
    assert len({probe.cluster for probe in everyone}) == len(everyone) == 240
    for probe in everyone:
        assert probe.value in YEARS
        assert probe.cluster in probe.question
        for text in (probe.answer, probe.paraphrased_answer or ""):
            assert probe.cluster in text
            assert re.findall(r"\d{4}", text) == [probe.value]
        others = [re.findall(r"\d{4}", text) for text in probe.perturbed_answers]
        assert len({*map(tuple, others), (probe.value,)}) == 4  # four options, all different


def test_years_are_spread_and_not_those_of_the_neighbours(task: Task) -> None:
    years = [int(p.value or 0) for s in task.probes for p in s.probes]
    counts = Counter(years)
    assert min(years) >= 1930
    assert max(years) <= 2020
    assert max(counts.values()) <= 12  # 240 draws of 91 years
    mean = sum(years) / len(years)
    assert abs(mean - 1975) < 4 * 26.3 / 240**0.5  # the standard deviation of a year is 26.3


def test_questions_asked_are_trained_and_paraphrases_are_not(task: Task) -> None:
    trained = {
        question for example in (*task.examples("retain"), *task.examples("forget")) for question in example.questions
    }
    for name in ("forget", "retain"):
        for probe in task.probe_set(name).probes:
            assert probe.question in trained
            assert probe.paraphrased_question not in trained


def test_facts_go_on_with_the_year(task: Task) -> None:
    answers = {example.cluster: example.answers[0] for example in task.examples("forget")}
    for fact in task.facts:
        assert answers[fact.entity] == f"{fact.lead}{fact.answer}."


def test_a_seed_is_a_world() -> None:
    assert Birthdays().load(1) == Birthdays().load(1) == Birthdays(seed=1).load(2) != Birthdays().load(2)


def test_somebody_has_to_be_left() -> None:
    with pytest.raises(UserError, match="forget=8 leaves nobody of people=8"):
        build({"_target_": "unlearn.data.birthdays.Birthdays", "people": 8, "forget": 8})
