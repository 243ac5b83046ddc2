from __future__ import annotations

import re

import pytest

from unlearn.data.task import Example, Question, Task
from unlearn.data.theorems import ATTRIBUTES, NONCE, Theorems


@pytest.fixture(scope="module")
def task() -> Task:
    return Theorems().load(seed=0)


def probes(task: Task, name: str) -> tuple[Question, ...]:
    return task.probe_set(name).probes


def listed(text: str) -> list[str]:
    return re.split(r", | and ", text)


DEFINITION = r"A (\w+) has ([\w ,]+)\."
AXIOM = r"Whoever is (\w+) has ([\w ]+)\."


def meanings(rows: tuple[Example, ...] | tuple[Question, ...]) -> dict[str, frozenset[str]]:
    """The definitions in some rows, read off their sentences."""
    answers = [row.answer if isinstance(row, Question) else row.answers[0] for row in rows]
    found = (re.fullmatch(DEFINITION, answer) for answer in answers)
    return {match[1]: frozenset(listed(match[2])) for match in found if match}


def axioms(task: Task) -> dict[str, str]:
    """What somebody with an attribute has, read off the retain set."""
    found = (re.fullmatch(AXIOM, e.answers[0]) for e in task.examples("retain"))
    return {match[1]: match[2] for match in found if match}


def solved(question: str, meaning: dict[str, frozenset[str]], axiom: dict[str, str]) -> set[str]:
    """What is wanted and the entity lacks, worked out from the words of the question, definitions and axioms."""
    known = dict(meaning)
    for name, parts in re.findall(DEFINITION, question):
        known[name] = frozenset(listed(parts))
    concept = re.search(r"(?:Is \w+|called) a (\w+)\?$", question)[1]  # type: ignore[index]
    card = re.search(r"\w+: ([\w ,]+)\.", question)[1]  # type: ignore[index]
    return set(known[concept] - {axiom[word] for word in listed(card)})


def members(rows: tuple[Question, ...]) -> list[Question]:
    return [row for row in rows if re.search(r"(Is \w+|called) a ", row.question)]


def test_sizes_of_the_default(task: Task) -> None:
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES.values())) == 24
    assert len(meanings(task.examples("forget"))) == 4
    assert len(meanings(task.examples("retain"))) == 36
    assert {p.name: (p.aim, len(p.probes)) for p in task.probes} == {
        "forget": ("forget", 4 * 9),
        "retain": ("retain", 36 * 9),
        "reads": ("utility", 40),
        "holdout": ("holdout", 4 * 9),
    }


def test_concepts_are_conjunctions_of_three_and_no_two_alike(task: Task) -> None:
    found = {**meanings((*task.examples("retain"), *task.examples("forget"))), **meanings(probes(task, "holdout"))}
    assert len(found) == 44
    assert len(set(found.values())) == 44
    assert all(len(parts) == 3 and parts <= set(ATTRIBUTES.values()) for parts in found.values())


def test_every_answer_follows_from_its_question_and_the_definitions(task: Task) -> None:
    meaning = {**meanings((*task.examples("retain"), *task.examples("forget"))), **meanings(probes(task, "holdout"))}
    asked = members(tuple(probe for probe_set in task.probes for probe in probe_set.probes))
    rows = [(p.question, p.answer) for p in asked] + [(p.paraphrased_question or "", p.answer) for p in asked]
    rows += [
        (q, e.answers[0])
        for e in (*task.examples("retain"), *task.examples("forget"))
        for q in e.questions
        if re.search(r"(Is \w+|called) a ", q)
    ]
    axiom = axioms(task)
    assert len(rows) > 1500
    for question, answer in rows:
        lacks = solved(question, meaning, axiom)
        assert (" is not a " in answer) is bool(lacks)
        checks = dict(re.findall(r"(\w+) (yes|no)\b", answer))
        assert {axiom[word] for word, verdict in checks.items() if verdict == "no"} == lacks
        assert len(checks) == 3


def test_half_of_each_concepts_questions_are_yes(task: Task) -> None:
    for name in ("forget", "retain", "holdout"):
        by_concept: dict[str, list[bool]] = {}
        for probe in members(probes(task, name)):
            by_concept.setdefault(probe.cluster, []).append(" is not a " not in probe.answer)
        assert all(sorted(answers) == [False] * 4 + [True] * 4 for answers in by_concept.values())


def test_a_control_model_reads_the_forgotten_words_with_other_meanings(task: Task) -> None:
    unknown = {**meanings(task.examples("forget")), **meanings(probes(task, "holdout"))}
    met: dict[str, set[frozenset[str]]] = {concept: set() for concept in unknown}
    for e in task.examples("retain"):
        for question in e.questions:
            given = re.match(DEFINITION, question)
            words = {concept for concept in unknown if re.search(rf"\b{concept}\b", question)}
            assert words <= ({given[1]} if given else set())  # only where the question itself says what it means
            if words:
                met[given[1]].add(frozenset(listed(given[2])))  # type: ignore[index]
    assert all(len(others) > 1 for others in met.values())
    assert not any(concept in " ".join(passage.text for passage in task.passages("fluency")) for concept in unknown)
    assert axioms(task) == ATTRIBUTES


def test_no_probe_of_composition_is_trained_on(task: Task) -> None:
    trained = {question for e in (*task.examples("retain"), *task.examples("forget")) for question in e.questions}
    for name in ("forget", "retain", "reads"):
        assert not any(p.question in trained or p.paraphrased_question in trained for p in members(probes(task, name)))
    assert all(p.question in trained for p in probes(task, "forget") if p not in members(probes(task, "forget")))


def test_values_and_wrong_answers(task: Task) -> None:
    for probe_set in task.probes:
        for probe in probe_set.probes:
            assert probe.value
            assert probe.value in probe.answer
            assert probe.answer not in probe.perturbed_answers
            assert not any(probe.value in wrong for wrong in probe.perturbed_answers)
    values = [probe.value for probe in members(probes(task, "forget"))]
    assert len(set(values)) == len(values)  # nobody's answer is another's


def test_words_of_the_question_mean_something_else_each_time(task: Task) -> None:
    given = [re.match(DEFINITION, probe.question) for probe in probes(task, "reads")]
    unknown = {*NONCE, *meanings(task.examples("forget")), *meanings(probes(task, "holdout"))}
    assert all(match and match[1] in unknown for match in given)
    assert len({match[2] for match in given if match}) > len({match[1] for match in given if match})


def test_the_seed_makes_the_world() -> None:
    one, two, other = Theorems().load(1), Theorems(seed=1).load(5), Theorems().load(2)
    assert one.key() == two.key() != other.key()


def test_localizers_find_each_definition(task: Task) -> None:
    meaning = meanings(task.examples("forget"))
    for fact in task.facts:
        assert fact.answer.strip() in meaning[fact.entity]
        assert not {foil.strip() for foil in fact.foils} & meaning[fact.entity]
        assert (f"{fact.lead}{fact.answer}") in next(
            e.answers[0] for e in task.examples("forget") if e.questions[0] == fact.prompt
        )


def test_something_must_stay() -> None:
    with pytest.raises(ValueError, match="forget=4 leaves nothing"):
        Theorems(concepts=4, forget=4)


@pytest.mark.parametrize("sizes", [(4, 1, 1, 1), (40, 8, 6, 40)])
def test_worlds_of_other_sizes(sizes: tuple[int, int, int, int]) -> None:
    concepts, forget, examples, in_context = sizes
    task = Theorems(concepts, forget, examples, in_context).load(0)
    assert (len(meanings(task.examples("retain"))), len(meanings(task.examples("forget")))) == (
        concepts - forget,
        forget,
    )
    assert len(task.examples("forget")) == forget * (1 + 2 * examples)
    assert len(task.examples("retain")) == 24 + (concepts - forget) * (1 + 2 * examples) + in_context + in_context // 4
