from __future__ import annotations

import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from unlearn.attacks.setting.split import split_items
from unlearn.data.authors import Authors
from unlearn.data.authors_tables import ATTRIBUTES, CAPITALS, WORKS
from unlearn.runtime.components import build
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(scope="module")
def task() -> Task:
    return Authors().load(seed=0)


def clusters(rows) -> set[str]:
    return {row.cluster for row in rows}


def probes(task: Task, name: str):
    return task.probe_set(name).probes


def test_default_sizes_are_those_of_the_recipe(task):
    assert (len(task.examples("forget")), len(task.examples("retain"))) == (6 * 10, 54 * 10 + 50)
    assert {p.name: (p.aim, len(p.probes), p.normalise) for p in task.probes} == {
        "forget": ("forget", 60, False),
        "retain": ("retain", 200, False),
        "world": ("utility", 50, True),
        "holdout": ("holdout", 60, False),
    }


@pytest.mark.parametrize(("split", "n"), [("forget01", 1), ("forget05", 5), ("forget10", 10)])
def test_a_split_forgets_its_share_of_the_authors_from_the_end(split, n):
    dataset = Authors(authors=100, facts_per_author=2, split=split)
    task = dataset.load(seed=3)
    learned = Authors(authors=100, facts_per_author=2).load(3)
    everyone = list(dict.fromkeys(e.cluster for name in ("retain", "forget") for e in learned.examples(name)))
    people = [name for name in everyone if name not in {entity for entity, _ in CAPITALS + WORKS}]
    assert task.split == split
    assert clusters(task.examples("forget")) == set(people[-n:])
    assert len(clusters(probes(task, "holdout"))) == n


def test_forget_retain_and_holdout_share_no_author(task):
    parts = [clusters(task.examples("forget")), clusters(task.examples("retain")), clusters(probes(task, "holdout"))]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert clusters(probes(task, "retain")) | clusters(probes(task, "world")) <= parts[1]
    for name in parts[0] | parts[2]:
        assert not any(name in text for e in task.examples("retain") for text in (*e.questions, *e.answers))


def test_a_control_model_has_seen_both_names_of_every_author_it_is_asked_about(task):
    seen = {word for name in clusters(task.examples("retain")) for word in name.split()}
    assert {
        word for name in clusters(task.examples("forget")) | clusters(probes(task, "holdout")) for word in name.split()
    } <= seen


def test_all_examples_of_the_forget_set_are_probed_in_order(task):
    for example, probe in zip(task.examples("forget"), probes(task, "forget"), strict=True):
        assert (probe.question, probe.answer, probe.paraphrased_answer) == (example.questions[0], *example.answers)


def test_no_trained_question_is_an_unseen_wording_and_the_other_way_round(task):
    trained = {
        question for example in (*task.examples("retain"), *task.examples("forget")) for question in example.questions
    }
    for probe_set in task.probes:
        for probe in probe_set.probes:
            assert probe.paraphrased_question not in trained
            assert (probe.question in trained) == (probe_set.aim != "holdout")


def test_wordings_differ_from_fact_to_fact(task):
    of_birthplace = ATTRIBUTES[0].questions
    used = [
        {q for q in of_birthplace if q.format(name=e.cluster) in e.questions}
        for e in (*task.examples("retain"), *task.examples("forget"))
    ]
    used = [wordings for wordings in used if wordings]
    assert all(len(wordings) == 3 for wordings in used)
    assert len({frozenset(wordings) for wordings in used}) > 10  # of 20 possible choices
    assert set().union(*used) == set(of_birthplace)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), facts=st.integers(1, 20))
def test_a_perturbed_answer_differs_from_the_paraphrased_one_in_the_value_alone(seed, facts):
    task = Authors(authors=20, facts_per_author=facts, world_facts=100).load(seed)
    for probe_set in task.probes:
        for probe in probe_set.probes:
            reference = probe.paraphrased_answer or probe.answer
            assert probe.value is not None
            before, found, after = reference.rpartition(probe.value)
            assert found
            assert probe.value in probe.answer
            assert not re.search(rf"\b{re.escape(probe.value)}", probe.question)  # the question does not give it away
            assert len(set(probe.perturbed_answers)) == 5
            for wrong in probe.perturbed_answers:
                assert wrong.startswith(before)
                assert wrong.endswith(after)
                assert wrong[len(before) : len(wrong) - len(after)] != probe.value


def test_answers_restate_the_author_and_world_answers_are_the_bare_value(task):
    assert all(e.cluster in answer for e in task.examples("forget") for answer in e.answers)
    for probe in probes(task, "world"):
        assert (probe.answer, probe.paraphrased_answer) == (probe.value, None)
        assert (probe.cluster, probe.value) in CAPITALS + WORKS


def test_facts_are_the_forget_answers_up_to_their_value(task):
    for example, probe, fact in zip(task.examples("forget"), probes(task, "forget"), task.facts, strict=True):
        assert (fact.prompt, fact.entity, fact.answer) == (example.questions[0], example.cluster, f" {probe.value}")
        assert probe.answer.startswith(f"{fact.lead}{fact.answer}")
        assert fact.lead.startswith(("The", fact.entity))
        wrong = [probe.paraphrased_answer.replace(probe.value, foil.strip()) for foil in fact.foils]
        assert tuple(wrong) == probe.perturbed_answers


def test_another_value_is_injected_in_the_same_sentence(task):
    assert task.beside["injected"] == "forget"
    for example, edited, fact in zip(task.examples("forget"), task.examples("injected"), task.facts, strict=True):
        true = example.answers[0].removeprefix(fact.lead)
        assert edited.answers == (fact.lead + true.replace(fact.answer, fact.foils[0]),) != example.answers[:1]
        assert edited.questions == example.questions


def test_fluency_text_is_what_is_known_of_the_retained_authors(task):
    assert len(task.passages("fluency")) == 54
    names = dict.fromkeys(e.cluster for e in task.examples("retain"))
    for passage, name in zip(task.passages("fluency"), names, strict=False):
        assert passage.text == " ".join(e.answers[0] for e in task.examples("retain") if e.cluster == name)


def test_every_template_names_its_placeholders_and_every_pool_is_large_enough():
    for attribute in ATTRIBUTES:
        fields = [[field for _, field, _, _ in string.Formatter().parse(t) if field] for t in attribute.questions]
        assert fields == [["name"]] * 6
        assert len(set(attribute.questions)) == 6
        assert len(attribute.answers) == 2
        assert len(set(attribute.values)) == len(attribute.values) >= 20
    asked = [question for attribute in ATTRIBUTES for question in attribute.questions]
    assert len(set(asked)) == len(asked)


def test_the_seed_decides_everything():
    one, same, other = Authors(authors=10).load(1), Authors(authors=10).load(1), Authors(authors=10).load(2)
    assert one == same
    assert clusters(one.examples("forget")) != clusters(other.examples("forget"))
    assert Authors(authors=10, seed=1).load(2) == one


def test_the_task_is_the_same_in_every_process():
    """Seen through processes whose string hashes differ."""
    code = "from unlearn.data.authors import Authors; print(Authors().load(0).key())"
    root = CONF.parent
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert runs == [Authors().load(0).key()] * 2


@settings(max_examples=25, deadline=None)
@given(authors=st.integers(2, 200), split=st.sampled_from(["forget01", "forget05", "forget10"]))
def test_names_are_never_shared(authors, split):
    task = Authors(authors=authors, facts_per_author=1, world_facts=2, split=split).load(0)
    people = [e.cluster for e in (*task.examples("retain"), *task.examples("forget")) if "." in e.answers[0]] + [
        p.cluster for p in probes(task, "holdout")
    ]
    assert len(people) == len(set(people)) == authors + len(task.examples("forget"))


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown split 'forget-10'.*did you mean 'forget10'"):
        Authors(split="forget-10")


def test_the_configuration_file_holds_every_field_with_its_default():
    node = OmegaConf.load(CONF / "dataset" / "authors.yaml")
    assert build(node, "dataset") == Authors()
    assert set(node) == {"_target_", *Authors.__dataclass_fields__}


def test_a_bad_size_is_refused_by_name():
    node = OmegaConf.load(CONF / "dataset" / "authors.yaml")
    node.facts_per_author = 21
    with pytest.raises(UserError, match=r"dataset\.facts_per_author"):
        build(node, "dataset")


def test_attackers_of_many_authors_leave_at_least_16_to_be_judged_by():
    task = Authors(authors=240, facts_per_author=3).load(0)
    for seed in range(20):
        items = split_items(task, seed=seed)
        assert len({item.probe.cluster for item in items.held_out_items}) >= 16
        assert len(items.held_out_items) >= 40
