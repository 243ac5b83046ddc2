"""Tasks: named sets, what components see of them, requests, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unlearn.data.history import KNOWN, History, Training, Until
from unlearn.data.narrowing import UndeclaredReadError
from unlearn.data.refusals import refusing
from unlearn.data.task import Example, Fact, Passage, ProbeSet, Question, Request, Row, Task, other_answers
from unlearn.data.texts import all_texts
from unlearn.runtime.errors import UserError

FORGET = tuple(Example((f"q{i}", f"Q{i}"), (f"a{i}",), f"c{i}") for i in range(4))
RETAIN = (Example(("r",), ("s",)),)
PASSAGES = (Passage("A text.", spans=((2, 6),)), Passage("Another."))
ASKED = ProbeSet("forget", "forget", (Question("q0", "a0"),), max_new_tokens=7)
TASK = Task(
    "toy",
    "all",
    {
        "forget": FORGET,
        "retain": RETAIN,
        "refusal": refusing(FORGET, ("no", "never", "no")),
        "injected": other_answers(FORGET, [(f"b{i}",) for i in range(4)]),
        "fluency": PASSAGES,
    },
    (ASKED, ProbeSet("kept", "retain", (Question("r", "s"),), max_new_tokens=3)),
    {"refusal": "forget", "injected": "forget"},
    (Fact("Ann plays", "Ann", " golf"),),
    validation=(ProbeSet("tuning", "forget", (Question("q1", "a1"),)),),
)


def test_sets_are_read_by_name_and_kind() -> None:
    assert TASK.rows("retain") == TASK.examples("retain") == RETAIN
    assert TASK.passages("fluency") == PASSAGES
    assert TASK.answers("refusal") == ("no", "never")
    assert TASK.answers("more") == ()
    assert TASK.max_new_tokens == 7
    with pytest.raises(UserError, match="unknown set 'retian' in dataset 'toy'; did you mean 'retain'"):
        TASK.rows("retian")
    with pytest.raises(UserError, match="'fluency' is not a set of questions and answers"):
        TASK.examples("fluency")
    with pytest.raises(UserError, match="'forget' is not a set of passages"):
        TASK.passages("forget")
    with pytest.raises(UserError, match=r"^needs more rows, but dataset 'toy' has none"):
        TASK.require_examples("forget", "more")
    TASK.require("fluency")
    with pytest.raises(UserError, match=r"^needs questions and answers, but 'fluency' of dataset 'toy' has others"):
        TASK.require_examples("forget", "fluency")


def test_a_component_sees_what_it_declares_and_no_more() -> None:
    seen = TASK.only({"retain", "facts", "mask", "fluency"})
    assert seen.rows("retain") == RETAIN
    assert seen.facts == TASK.facts
    assert set(seen.sets) == {"retain", "fluency"}
    for look in (
        lambda: seen.rows("forget"),
        lambda: "forget" in seen.sets,
        lambda: seen.sets.get("anything"),
        lambda: list(seen.probes),
        lambda: len(seen.validation),
        lambda: seen.history.original,
        lambda: bool(seen.requests),
        lambda: seen.max_new_tokens,
    ):
        with pytest.raises(UndeclaredReadError, match="without naming it in `reads`"):
            look()
    again = replace(seen, facts=())
    with pytest.raises(UndeclaredReadError, match="'forget'"):
        again.rows("forget")
    with pytest.raises(UserError, match="unknown set 'mask'"):
        seen.rows("mask")  # a name that it may read, and that is not there


def test_what_is_narrowed_is_not_checked_again() -> None:
    """The history names a probe set that a component, or another request, does not see."""
    rule = Until("kept", 0.9)
    first, second = Request({"forget": FORGET[:2]}, ("forget",)), Request({"forget": FORGET[2:]}, ("kept",))
    history = History(Training(("forget",), until=rule), None)
    task = replace(TASK, history=history, requests=(first, second))
    assert task.only({"history"}).history == history
    assert task.only({"requests"}).requests == (first, second)
    assert task.only({"pretrained", "requests", "history", "validation", "corpus"}).pretrained is None
    assert task.at(first).only({"probes", "history"}).probes == (ASKED,)
    assert replace(task, narrowed=True).key() == task.key()


def test_what_a_set_lies_beside_comes_with_it() -> None:
    seen = TASK.only({"refusal"})
    assert set(seen.sets) == {"forget", "refusal"}
    assert seen.beside == {"refusal": "forget"}


def test_the_key_holds_what_is_read() -> None:
    changed: dict[str, Task] = {
        "facts": replace(TASK, facts=()),
        "probes": replace(TASK, probes=TASK.probes[:1]),
        "validation": replace(TASK, validation=()),
        "history": replace(TASK, history=KNOWN),
        "pretrained": replace(TASK, pretrained=KNOWN),
        "requests": replace(TASK, requests=(Request({"forget": FORGET[:1]}),)),
        "corpus": replace(TASK, corpus=("more",)),
    }
    for name in ("retain", "fluency"):
        row: Row = replace(RETAIN[0], answers=("S",)) if name == "retain" else replace(PASSAGES[0], spans=())
        changed[name] = replace(TASK, sets={**TASK.sets, name: (row, *TASK.sets[name][1:])})
    for part, other in changed.items():
        assert other.key() != TASK.key()
        for reads in ({"retain"}, {"fluency"}, {"facts"}, {"probes"}, {"validation"}, {"refusal"}):
            assert (other.only(reads).key() != TASK.only(reads).key()) == (part in reads), (part, reads)
    renamed = replace(TASK, name="other", split="other")
    assert renamed.key() == TASK.key()
    longer = replace(TASK, probes=tuple(replace(p, max_new_tokens=9) for p in TASK.probes))
    assert longer.only({"probes"}).key() != TASK.only({"probes"}).key()


def test_a_request_takes_its_rows_and_what_lies_beside_them() -> None:
    first, second = Request({"forget": FORGET[2:]}, ("forget",)), Request({"forget": FORGET[:1]}, ("kept",))
    task = replace(TASK, requests=(first, second))
    now = task.at(first)
    assert now.rows("forget") == FORGET[2:]
    assert now.rows("retain") == RETAIN
    assert [row.answers for row in now.examples("injected")] == [("b2",), ("b3",)]
    assert [row.questions for row in now.examples("refusal")] == [FORGET[2].questions, FORGET[3].questions]
    assert [p.name for p in now.probes] == ["forget"]
    assert [p.name for p in task.at(second).probes] == ["kept"]
    assert now.requests == ()
    assert now.key() != task.at(second).key()

    new = (Example(("new",), ("row",)),)
    own = Request({"forget": new, "refusal": refusing(new, ("no",)), "injected": other_answers(new, [("x",)])})
    assert replace(TASK, requests=(own,)).at(own).examples("injected")[0].answers == ("x",)


def test_tasks_may_lack_questions_and_retain_rows_and_a_control() -> None:
    plain = Task("texts", "all", {"forget": PASSAGES}, history=History(Training(("forget",)), None))
    assert list(all_texts(plain)) == ["A text.", "Another."]
    assert Task("nothing", "all", {}, history=KNOWN).probes == ()


def test_the_corpus_of_a_tokenizer_keeps_its_order() -> None:
    expected = ["r", "s", *(text for row in FORGET for text in (*row.questions, *row.answers)), "no", "never"]
    assert list(all_texts(TASK)) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sets": {**TASK.sets, "retain": ()}}, r"dataset 'toy' \(all\) has no retain rows"),
        ({"sets": {**TASK.sets, "retain": (Example(("q",), (" ",)),)}}, "retain row 0 has an empty question or answer"),
        ({"sets": {**TASK.sets, "fluency": (Passage(" "),)}}, "fluency row 0 has no text"),
        (
            {"sets": {**TASK.sets, "fluency": (Passage("abc", spans=((1, 4),)),)}},
            "has a span outside its text, 1 to 4",
        ),
        ({"sets": {**TASK.sets, "fluency": (Passage("abc", spans=((1, 1),)),)}}, "row 0 has an empty span, 1 to 1"),
        ({"sets": {**TASK.sets, "injected": TASK.sets["injected"][:2]}}, "'injected' beside 'forget': 2 rows beside 4"),
        ({"sets": {**TASK.sets, "injected": RETAIN * 4}}, "'injected' beside 'forget': row 0 has other questions"),
        ({"beside": {"denial": "forget"}}, "unknown set 'denial'"),
        ({"sets": {"forget": FORGET}, "beside": {}}, "unknown set 'retain'"),
        ({"history": History(Training(("forgot",)), None)}, "unknown set 'forgot' in dataset 'toy'; did you mean"),
        ({"history": History(Training(("forget",), until=Until("asked", 0.9)), None)}, "unknown probe set 'asked'"),
        ({"requests": (Request({"forgot": FORGET}),)}, "unknown set 'forgot'"),
        ({"requests": (Request({"forget": FORGET}, ("asked",)),)}, "unknown probe set 'asked'"),
        ({"requests": (Request({"forget": RETAIN}),)}, "request 1: some rows of 'forget' are not the task's"),
        ({"facts": (Fact("Bob plays", "Ann", " golf"),)}, "the prompt of fact 0 does not name its entity"),
        ({"probes": (ASKED, ASKED)}, r"dataset 'toy' \(all\): two probe sets are named 'forget'"),
        ({"validation": (ASKED,)}, "two probe sets are named 'forget'"),
        ({"probes": (ProbeSet("none", "forget", ()),)}, "the probe set 'none' has no probes"),
        ({"requests": (Request({"forget": FORGET}), Request({}))}, "request 2 names neither rows nor probes"),
        ({"validation": (ProbeSet("v", "forget", (Question("", "a"),)),)}, "probe row 0 of 'v' has an empty question"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(TASK, **change)


def test_the_control_model_comes_first() -> None:
    with pytest.raises(ValueError, match="cannot start from the control model"):
        History(Training(("forget",)), Training(("retain",), start="control"))
    with pytest.raises(ValueError, match="control model that there is not"):
        History(Training(("forget",), start="control"), None)
