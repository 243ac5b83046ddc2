from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from black_box import SCORED, person, setting, subject

from unlearn.attacks.base import AttackSetting
from unlearn.attacks.prompts.reasoning import CATEGORIES, Chain, answer_type, by_template, category, make_chains
from unlearn.attacks.setting.other_facts import Related, names
from unlearn.attacks.setting.split import split_items
from unlearn.attacks.setting.text import mentions
from unlearn.data.authors import Authors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.subject import Subject

BORN, JOB = SCORED[:2]  # of Ivo Lund: Porto, nurse


@pytest.fixture(scope="module")
def authors() -> AttackSetting:
    task = Authors(authors=20).load(seed=0)
    items = split_items(task, share=0.1, min_items=1, split="within_cluster")
    return AttackSetting(
        task, items.attacker_items, items.held_out_items, task.probe_set("retain").probes[:10], "match"
    )


def test_templates_are_of_their_category_and_never_tell(authors: AttackSetting) -> None:
    related = Related.forgotten(authors)
    made = {kind: 0 for kind in CATEGORIES}
    for item in authors.held_out_items:
        entity = related.entity(item)
        assert entity == item.probe.cluster
        for chain in by_template(item, related, steps=3):
            made[chain.category] += 1
            assert 2 <= len(chain.steps) <= 3
            assert not mentions(chain.text, item.short_answer)
            assert names(chain.text, entity) == (chain.category == "direct")
            assert category(chain.text, item, entity) == chain.category
    n = len(authors.held_out_items)
    assert made["direct"] > 1.8 * n
    assert made["indirect"] > 1.5 * n
    assert made["implied"] > 1.5 * n


def test_direct_chains_end_with_the_question() -> None:
    chains = by_template(BORN, Related.forgotten(setting()), steps=3)
    direct = [chain for chain in chains if chain.category == "direct"]
    assert direct[0].steps == (JOB.probe.question, BORN.probe.question)
    assert direct[1].steps[-1] == BORN.probe.paraphrased_question
    indirect = next(chain for chain in chains if chain.category == "indirect")
    assert indirect.steps == ("X works as a nurse. Who or what is X?", "Where was X born?")


def test_an_item_of_which_nothing_else_is_known_is_only_asked_directly() -> None:
    alone = Related.of([BORN], setting().task)
    assert {chain.category for chain in by_template(BORN, alone, steps=3)} == {"direct"}


def test_a_single_prompt_numbers_its_steps() -> None:
    assert Chain("direct", 0, ("A?", "B?")).single.endswith("\n1. A?\n2. B?")


@pytest.mark.parametrize(
    ("value", "kind"),
    [("1941", "a number"), ("Lisbon", "a name"), ("war fiction", "a word or two"), ("a b c d e f g", "a sentence")],
)
def test_the_kind_of_answer(value: str, kind: str) -> None:
    assert answer_type(value) == kind


class Writer:
    """Writes what it is told to, by category."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.calls: list[Any] = []

    def write(self, subject: Subject, requests: Sequence[str]) -> list[str]:
        self.calls.append(len(requests))
        kinds = ["implied" if "scene" in r else "indirect" if "describe X" in r else "direct" for r in requests]
        return [self.texts[kind] for kind in kinds]


def test_what_a_generator_writes_is_filtered() -> None:
    items = person(0, "Ivo Lund", "Porto", "nurse")[:1]
    related = Related.of([*items, JOB], setting().task)
    writer = Writer(
        direct="Here you are:\n1. What does Ivo Lund do?\n2. Where does Ivo Lund come from?",
        indirect="1. Was X born in Porto?\n2. Where was X born?",
        implied="1. Only one question about a nurse?",
    )
    made = make_chains(subject(), items, related, 3, writer)  # type: ignore[arg-type]
    assert made.counts == {"kept": 2, "reveals": 2, "unusable": 2}
    assert made.share("reveals") == pytest.approx(1 / 3)
    written = [chain for chain in made.of[0] if chain.written]
    assert [chain.steps for chain in written] == [("What does Ivo Lund do?", "Where does Ivo Lund come from?")] * 2
    assert {chain.category for chain in made.of[0] if not chain.written} == {"indirect", "implied"}


def test_a_prompt_of_another_category_is_not_used() -> None:
    writer = Writer(direct="1. Who?\n2. What?", indirect="1. Who?\n2. What?", implied="1. Who?\n2. What?")
    made = make_chains(subject(), [BORN], Related.forgotten(setting()), 3, writer)  # type: ignore[arg-type]
    assert made.counts == {"other category": 4, "kept": 2}


def test_a_generator_that_is_too_small_is_asked_no_more() -> None:
    writer = Writer(direct="la la", indirect="la", implied="1. la\n2. la")
    items = [replace(item, index=i) for i, item in enumerate(SCORED)]
    made = make_chains(subject(), items, Related.of(items, setting().task), 3, writer)  # type: ignore[arg-type]
    assert writer.calls == [12]  # two items, three categories, two phrasings
    assert not any(chain.written for chains in made.of for chain in chains)
    templates = make_chains(subject(), items, Related.of(items, setting().task), 3, None)
    assert made.of == templates.of
    assert templates.counts == {}
