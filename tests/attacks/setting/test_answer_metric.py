"""K of an answer, by hand and against the one scoring."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from black_box import setting, subject
from scoring import Scoring

from unlearn.attacks.setting.answer_metric import ask, choose_answer_metric, evaluate_attacked, read
from unlearn.data.task import ProbeSet, Question
from unlearn.models.sampling import Sampling
from unlearn.runtime.errors import UserError
from unlearn.score.generate import Decoding, generate

if TYPE_CHECKING:
    from unlearn.attacks.base import AnswerMetric

PROBES = (
    Question("q", "She was born in Turin.", value="Turin"),
    Question("q", " Oslo"),
    Question("q", "the red house"),
)


@pytest.mark.parametrize(
    ("answer_metric", "texts", "known"),
    [
        ("match", ["In turin, I think.", "It is Oslo!", "a red house"], [1, 1, 0]),
        ("match", ["Turing", "", "The red house."], [0, 0, 1]),
        ("gen", ["born in Turin", "Oslo", "red"], [3 / 5, 1, 1 / 3]),
        ("verbatim", ["born in Turin", "Oslo or Bern", "red"], [2 * 1 * 0.6 / 1.6, 0.5, 0.5]),
    ],
)
def test_what_a_text_shows(answer_metric: AnswerMetric, texts: list[str], known: list[float]) -> None:
    assert read(PROBES, texts, answer_metric) == pytest.approx(known)


def test_probability_and_answers_are_those_of_the_one_scoring() -> None:
    model, asked = subject(), setting()
    task = replace(
        asked.task, probes=(ProbeSet("asked", "forget", asked.questions, max_new_tokens=asked.task.max_new_tokens),)
    )
    scores = Scoring().score(model.module, model.processor, model.prompt, task)
    answers = scores["tokens"][scores["tokens"]["kind"] == "answer"]
    expected = [np.exp(logp.astype(float).mean()) for logp in answers["logp"]]
    assert ask(model, asked, asked.questions, "prob").known == pytest.approx(expected, rel=1e-5)
    assert ask(model, asked, asked.questions, "gen").texts == tuple(scores["generations"]["generation"])


def test_answers_are_drawn_where_the_suspect_is_sampled() -> None:
    model, asked = subject(), setting()
    drawing = Sampling(temperature=0.7, top_p=0.9, seed=3)
    prompts = model.prompt.encode_prompts(model.processor, [probe.question for probe in asked.questions])
    expected = generate(model.module, model.processor, prompts, asked.task.max_new_tokens, 4096, Decoding(drawing))
    drawn = ask(replace(model, sampling=drawing), asked, asked.questions, "match").texts
    assert drawn == tuple(expected) != ask(model, asked, asked.questions, "match").texts


def test_choice_is_corrected_for_chance() -> None:
    """Among m options the likeliest, by its summed log-probability, scores 1, any other -1/(m-1)."""
    model, asked = subject(), setting()
    known = ask(model, asked, asked.questions, "mcq").known
    for probe, k in zip(asked.questions, known, strict=True):
        options = [probe.paraphrased_answer or probe.answer, *probe.perturbed_answers]
        task = replace(
            asked.task, probes=(ProbeSet("one", "forget", tuple(Question(probe.question, o) for o in options)),)
        )
        tokens = Scoring(generate=False).score(model.module, model.processor, model.prompt, task)["tokens"]
        sums = [logp.astype(float).sum() for logp in tokens["logp"]]
        m, winners = len(options), [i for i, s in enumerate(sums) if s == max(sums)]
        assert k == pytest.approx(((0 in winners) / len(winners) - 1 / m) / (1 - 1 / m), abs=1e-6)


def test_what_cannot_be_asked() -> None:
    model, asked = subject(), setting()
    alone = [Question("What?", "That.")]
    assert np.isnan(ask(model, asked, alone, "mcq").known).all()
    assert len(ask(model, asked, []).known) == 0
    task = replace(asked.task, probes=(ProbeSet("forget", "forget", tuple(alone)),))
    assert choose_answer_metric(task, None) == "gen"
    assert choose_answer_metric(asked.task, "prob") == "prob"
    with pytest.raises(UserError, match=r"'leak\.answer_metric' is mcq"):
        choose_answer_metric(task, "mcq")


def test_an_outcome_of_a_changed_model() -> None:
    model, asked = subject(), replace(setting(), retain=(Question("Who is it?", "It is I."),))
    found = evaluate_attacked(model, asked, "as it is", with_attacker_items=True, budget=3.0)
    alone = [
        ask(model, asked, probes).known
        for probes in (asked.questions, [i.probe for i in asked.attacker_items], asked.retain)
    ]
    assert found.known == pytest.approx(alone[0], rel=1e-5)  # one batch rounds unlike three
    assert found.budget == 3
    assert found.on_attacker_items == pytest.approx(alone[1].mean(), rel=1e-5)
    assert found.utility == pytest.approx(alone[2].mean(), rel=1e-5)
