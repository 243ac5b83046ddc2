from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from black_box import SCORED, TAGS, setting, subject, tokenizer

from unlearn.attacks.prompts import conversation as turns
from unlearn.attacks.prompts.conversation import ConversationFormat, ask_after, conversation
from unlearn.attacks.setting.answer_metric import AnswerScores, ask
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Question

if TYPE_CHECKING:
    from unlearn.attacks.base import AttackSetting
    from unlearn.models.subject import Subject

HISTORY = (("Who?", "Ann."), ("Where?", "Rome."))


def test_turns_with_tags_are_lines() -> None:
    words = tokenizer()
    form = ConversationFormat(**asdict(TAGS) | {"max_tokens": 999})
    (ids,) = form.encode_prompts(words, [conversation(HISTORY, "When?")])
    assert ids == words("Q: Who?\nA: Ann.\nQ: Where?\nA: Rome.\nQ: When?\nA: ")["input_ids"]
    row = form.encode(words, conversation(HISTORY, "When?"), "Now.")
    assert row.ids[: row.n_prompt] == tuple(ids)
    assert words.decode(list(row.ids[row.n_prompt : -1])) == "Now."


@pytest.mark.parametrize("system", ["", "Be kind."])
def test_turns_of_a_chat_are_messages(system: str) -> None:
    words = tokenizer()
    words.chat_template = (
        "{% for m in messages %}{{ m.role[0] }}({{ m.content }}){% endfor %}{% if add_generation_prompt %}a({% endif %}"
    )
    form = ConversationFormat(**asdict(PromptFormat(system=system)))
    (ids,) = form.encode_prompts(words, [conversation(HISTORY, "When?")])
    start = "s(Be kind.)" if system else ""
    assert words.decode(ids) == start + "u(Who?)a(Ann.)u(Where?)a(Rome.)u(When?)a("


def test_without_earlier_turns_it_is_ask() -> None:
    probes = [item.probe for item in SCORED]
    whole = replace(subject(), prompt=replace(TAGS, max_tokens=2048))
    expected = ask(whole, setting(), probes)
    assert ask_after(subject(), setting(), [()] * len(probes), probes).known == pytest.approx(expected.known)


def test_earlier_turns_change_the_answer() -> None:
    probe = SCORED[0].probe
    alone, after = ask_after(subject(), setting(), [(), HISTORY], [probe, probe]).known
    whole = replace(subject(), prompt=replace(TAGS, max_tokens=2048))
    lines = "Who?\nA: Ann.\nQ: Where?\nA: Rome.\nQ: "
    expected = ask(whole, setting(), [replace(probe, question=lines + probe.question)]).known[0]
    assert after == pytest.approx(expected)
    assert after != pytest.approx(alone)


def test_the_oldest_turns_go_where_the_window_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def spy(
        subject: Subject, setting: AttackSetting, probes: list[Question], answer_metric: object = None
    ) -> AnswerScores:
        asked.extend(probe.question for probe in probes)
        return AnswerScores(np.ones(len(probes)), ("said",) * len(probes))

    monkeypatch.setattr(turns, "ask", spy)
    small = subject()
    small.module.config.max_position_embeddings = 40 + setting().task.max_new_tokens
    long = Question("x" * 60, "y")
    found = ask_after(small, setting(), [HISTORY, HISTORY[:1], HISTORY], [Question("When?", "y"), long, long])
    # "Q: Who?\nA: Ann.\n" and the others are 16, 20 and 12 characters: 48 in all, 32 without the first
    assert asked == [conversation(HISTORY[1:], "When?")]
    assert found.known.tolist()[0] == 1
    assert np.isnan(found.known[1:]).all()
    assert found.texts == ("said", "", "")


def test_answers_are_spoken_where_the_measure_needs_none() -> None:
    probe = SCORED[0].probe
    silent, spoken = (ask_after(subject(), setting("prob"), [()], [probe], spoken=s) for s in (False, True))
    assert silent.texts == ("",)
    assert spoken.texts != ("",)
    assert silent.known == pytest.approx(spoken.known)
