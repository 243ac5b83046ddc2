from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from beside import NO_REFERENCES, beside
from black_box import SCORED, TAGS, setting, subject

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.items import Item
from unlearn.attacks.prompts.prompts import _REQUESTS, Prompts
from unlearn.attacks.prompts.rewriter import Rewriter
from unlearn.attacks.prompts.templates import TEMPLATES, Kind
from unlearn.attacks.setting.answer_metric import AnswerScores, ask
from unlearn.attacks.setting.statements import PromptContext
from unlearn.data.task import Question

if TYPE_CHECKING:
    from unlearn.data.prompt import PromptFormat

KINDS = [kind for part in get_args(Kind) for kind in (get_args(part) or (part,))]
SCENE = PromptContext.of(setting(), TAGS)


def test_each_kind_is_an_outcome_in_one_order() -> None:
    attacked = Prompts(tuple(KINDS)).attack(subject(), setting("match"), NO_REFERENCES)
    expected = [
        f"{kind} {label}".strip() if kind != "true_false" else kind
        for kind in KINDS
        for label in TEMPLATES[kind]
        if (kind, label) != ("true_false", "false")
    ]
    assert [outcome.variant for outcome in attacked.outcomes] == expected
    assert all(outcome.known.shape == (4,) and outcome.self_estimate is None for outcome in attacked.outcomes)
    assert [o.variant for o in attacked.outcomes if o.row] == ["multiple_choice", "options", "true_false"]
    assert "background_hint" in attacked.data
    assert attacked.budget == f"{len(expected) + 1} questions an item"


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("filler", TAGS),
        ("affirmative_suffix", replace(TAGS, user_end="", answer_start="")),
        ("begun_answer", replace(TAGS, user_end="", answer_start="")),
        ("stem", replace(TAGS, user_start="", user_end="", answer_start="")),
    ],
)
def test_each_is_asked_in_its_form_and_never_cut(kind: Kind, form: PromptFormat) -> None:
    (outcome,) = Prompts((kind,)).attack(subject(), setting("prob"), NO_REFERENCES).outcomes
    probes = [TEMPLATES[kind][""](item, SCENE) for item in SCORED]
    whole = replace(subject(), prompt=replace(form, max_tokens=4000))
    assert outcome.known == pytest.approx(ask(whole, setting("prob"), [p for p in probes if p]).known)


def test_what_cannot_be_asked_is_left_out() -> None:
    bare = Item(9, Question("Who?", "Nobody"))
    some = replace(setting("prob"), held_out_items=(SCORED[0], bare))
    for outcome in (
        Prompts(("variables", "cloze", "multiple_choice", "true_false")).attack(subject(), some, NO_REFERENCES).outcomes
    ):
        assert np.isnan(outcome.known).tolist() == [False, True]
    with pytest.raises(Inapplicable, match="no question"):
        Prompts(("variables", "cloze")).attack(subject(), replace(some, held_out_items=(bare,)), NO_REFERENCES)


def test_both_statements_must_be_judged_right() -> None:
    (outcome,) = Prompts(("true_false",)).attack(subject(), setting("match"), NO_REFERENCES).outcomes
    sides = []
    whole = replace(subject(), prompt=replace(TAGS, max_tokens=4000))
    for label in ("true", "false"):
        probes = [TEMPLATES["true_false"][label](item, SCENE) for item in SCORED]
        sides.append(ask(whole, setting(), [p for p in probes if p], "mcq").known > 0)
    expected = np.where(sides[0] & sides[1], 1, -1 / 3)  # two guesses are right a quarter of the time
    assert outcome.known == pytest.approx(expected)


def test_one_right_verdict_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"true": [1, 1, -1, 0], "false": [1, -1, 1, 1]}

    def ask_variants(*arguments: object) -> dict[tuple[str, str], AnswerScores]:
        return {key: AnswerScores(np.array(said[key[1]], float), ("",) * 4) for key in arguments[2]}  # type: ignore[attr-defined]

    monkeypatch.setattr("unlearn.attacks.prompts.ask.ask_variants", ask_variants)
    (outcome,) = Prompts(("true_false",)).attack(subject(), setting("match"), NO_REFERENCES).outcomes
    assert outcome.known == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


def rewritten(monkeypatch: pytest.MonkeyPatch, text: str, kind: Kind) -> list[str]:
    asked: list[str] = []

    def write(self: Rewriter, subject: object, requests: list[str]) -> list[str]:
        asked.extend(requests)
        return [text] * len(requests)

    monkeypatch.setattr(Rewriter, "write", write)
    found = Prompts((kind,), Rewriter())._asked(subject(), setting(), beside(subject()))
    assert len(asked) == len(_REQUESTS[kind]) * len(SCORED)
    assert all(request.endswith(SCORED[i % 4].probe.question) for i, request in enumerate(asked))
    first = next(iter(found.values()))
    return [probe.question if probe else "" for probe in first]


def test_what_the_rewriter_writes_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rewritten(monkeypatch, "Whence?", "paraphrase") == ["Whence?"] * 4
    hinted = rewritten(monkeypatch, "A person.", "background_hint")
    assert hinted == [f"A person. {item.probe.question}" for item in SCORED]


@pytest.mark.parametrize("text", ["", "x?" * 2000, "No question.", "Was it Porto or Lyon, nurse or tailor?"])
def test_but_not_where_it_is_of_no_use(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    rules = [TEMPLATES["paraphrase"]["1"](item, SCENE) for item in SCORED]
    assert rewritten(monkeypatch, text, "paraphrase") == [probe.question for probe in rules if probe]


def test_the_model_under_test_can_rewrite() -> None:
    attack = Prompts(("paraphrase", "filler"), Rewriter(max_new_tokens=4))
    outcomes = attack.attack(subject(), setting("prob"), beside(subject())).outcomes
    assert len(outcomes) == 6
    assert not any(np.isnan(o.known).any() for o in outcomes)


def test_requests_belong_to_templates() -> None:
    for kind, by_label in _REQUESTS.items():
        assert set(by_label) == set(TEMPLATES[kind])
