"""Soft prompts: where their vectors go, that they are learned within their norm, and that all models give alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from beside import NO_REFERENCES
from families import family
from helpers import RUN
from prompted import PAIRS, POSED, hooks_of, setting_of, subject_of

from unlearn.attacks.optimized.fitting import Schedule, Targets, fit
from unlearn.attacks.optimized.softprompt import (
    SHUFFLED,
    ExtraHead,
    InputVectors,
    SoftPrompt,
    WithPlaceholders,
    shuffled,
)
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Question
from unlearn.runtime.errors import UserError
from unlearn.score.generate import generate
from unlearn.score.likelihood import likelihoods

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

SMALL = SoftPrompt(vectors=3, steps=(2, 4), rates=(0.05,), batch=2)


def tagged(subject: Subject) -> Subject:
    return replace(subject, prompt=PromptFormat(chat_template=False, user_start="he: ", user_end="\n"))


@pytest.mark.parametrize("name", ["llama", "gemma", "gemma3", "gpt2", "opt"])
def test_vectors_that_are_embeddings_do_what_the_tokens_do(name: str) -> None:
    model = family(name)
    model.resize_token_embeddings(300)
    subject = replace(tagged(subject_of()), module=model)
    soft = InputVectors(subject, 3, 100.0, 0)
    tokens, held = [40, 41, 42], soft.subject.prompt
    assert isinstance(held, WithPlaceholders)
    with torch.no_grad():
        soft.vectors.copy_(model.get_input_embeddings()(torch.tensor(tokens)))
    rows = held.encode_all(subject.processor, [*PAIRS, (PAIRS[0][0], "Oh.")])
    plain = [replace(row, ids=(*row.ids[: held.at], *tokens, *row.ids[held.at + 3 :])) for row in rows]
    for row, question in zip(plain, (PAIRS[0][0], PAIRS[1][0]), strict=False):
        text = subject.processor.decode([i for i in row.ids if i not in tokens])
        assert str(text).startswith(f"he: {question}")
    prompts = [list(row.ids[: row.n_prompt]) for row in plain[:2]]
    expected = generate(model, subject.processor, prompts, 5, 512)
    scores = likelihoods(model, [[plain[0], plain[2]], [plain[1]]], 0, 512)
    with soft.active():
        asked = held.encode_prompts(subject.processor, [question for question, _ in PAIRS])
        assert generate(model, subject.processor, asked, 5, 512) == expected
        for share in (True, False):
            found = likelihoods(model, [[rows[0], rows[2]], [rows[1]]], 0, 512, share_prefix=share)
            for mine, theirs in zip(found, scores, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    assert a.logp == pytest.approx(b.logp, abs=1e-4)
    assert hooks_of(subject) == 0


def test_a_placeholder_that_occurs_in_a_question_is_a_token_like_any_other() -> None:
    subject = subject_of()
    soft = InputVectors(subject, 2, 1.0, 0)
    held = soft.subject.prompt
    assert isinstance(held, WithPlaceholders)
    embeddings = subject.module.get_input_embeddings()
    ids = torch.tensor([[held.token, held.token, 5, held.token], [5, held.token, 6, 7]])
    with soft.active():
        found = embeddings(ids)
        single = embeddings(torch.tensor([[held.token]]))
    torch.testing.assert_close(found[0, :2], soft.vectors)
    torch.testing.assert_close(found[0, 2:], embeddings(ids[0, 2:]))
    torch.testing.assert_close(found[1], embeddings(ids[1]))  # too few of them: no prompt at all
    torch.testing.assert_close(single[0, 0], embeddings(torch.tensor(held.token)))


def test_the_extra_head_adds_what_it_reads() -> None:
    subject = subject_of()
    head = ExtraHead(subject, 3, 1.0, 0)
    ids = torch.tensor([[7, 8]])
    plain = subject.module.get_input_embeddings()(ids)
    with head.active(), torch.no_grad():
        found = subject.module.get_input_embeddings()(ids)
    for t in range(2):
        q = plain[0, t] @ head.query
        scores = torch.stack([q @ key / 4 for key in head.keys])
        expected = plain[0, t] + sum(w * v for w, v in zip(scores.softmax(0), head.values, strict=True))
        torch.testing.assert_close(found[0, t], expected)


@pytest.mark.parametrize("kind", [InputVectors, ExtraHead])
def test_learning_lowers_the_loss_on_all_questions_within_the_norm(kind: type[InputVectors] | type[ExtraHead]) -> None:
    subject = subject_of()
    soft = kind(subject, 3, 0.5, 0)
    rows = soft.subject.prompt.encode_all(subject.processor, PAIRS)

    def loss() -> float:
        with soft.active():
            return -sum(float(s[0].logp.mean()) for s in likelihoods(subject.module, [[row] for row in rows], 0, 512))

    before = loss()
    fit(soft, Targets(POSED), Schedule(30, 0.05, 2), 0)
    assert loss() < before - 0.1
    embeddings: Any = subject.module.get_input_embeddings()
    norm = 0.5 * embeddings.weight.norm(dim=1).mean()
    learned = [tensor.detach() for tensor in soft.parameters]
    bounded = learned if kind is InputVectors else learned[1:]
    assert all(float(row.norm()) <= float(norm.detach()) * (1 + 1e-5) for tensor in bounded for row in tensor)
    assert torch.isclose(max(row.norm() for row in learned[-1]), norm, rtol=1e-3) or kind is ExtraHead


@pytest.mark.parametrize("form", ["vectors", "key_value"])
def test_all_models_give_the_same_outcomes_and_are_left_alone(form: Any) -> None:
    attack = replace(SMALL, form=form, per_item=2)
    subject, setting = subject_of(), setting_of(scored=2, seeds=(0, 1))
    before = [parameter.detach().clone() for parameter in subject.module.parameters()]
    outcomes = attack.attack(subject, setting, NO_REFERENCES).outcomes
    rows = [("", "rate 0.05, 2 steps"), ("", "rate 0.05, 4 steps")]
    one = [*rows, *((SHUFFLED, variant) for _, variant in rows), ("per_item", "2 steps")]
    assert [(o.row, o.variant) for o in outcomes] == one * 2
    assert [o.seed for o in outcomes] == [0] * 5 + [1] * 5
    assert [o.counts for o in outcomes[:5]] == [True, True, False, False, False]
    assert all((o.self_estimate is None) == (o.row == "per_item") for o in outcomes)
    assert all(torch.equal(a, b) for a, b in zip(before, subject.module.parameters(), strict=True))
    assert hooks_of(subject) == 0
    assert type(subject.prompt) is PromptFormat


def test_the_surer_of_two_that_are_always_right_is_taken() -> None:
    from unlearn.attacks.setting.answer_metric import ask
    from unlearn.attacks.setting.self_estimate import evaluate_with_estimate

    subject, setting = subject_of(), setting_of()
    outcome = evaluate_with_estimate(subject, setting, "plain")
    sure = ask(subject, setting, [item.probe for item in setting.attacker_items], "prob").known.mean()
    assert outcome.self_estimate == pytest.approx((outcome.on_attacker_items or 0.0) + sure / 1000)


def test_no_question_keeps_its_answer_when_answers_are_shuffled() -> None:
    pairs = [(Question(str(i), ""), chr(97 + i)) for i in range(6)]
    for seed in range(5):
        mixed = shuffled(pairs, seed)
        assert [question for question, _ in mixed] == [question for question, _ in pairs]
        assert sorted(answer for _, answer in mixed) == sorted(answer for _, answer in pairs)
        assert not set(mixed) & set(pairs)


def test_forcing_wants_wrong_answers() -> None:
    setting = setting_of()
    task = setting.task
    probes = task.probes[0]
    bare = replace(probes, probes=tuple(replace(p, perturbed_answers=()) for p in probes.probes))
    SMALL.check(replace(task, probes=(bare,)), RUN)
    with pytest.raises(UserError, match="wrong answers"):
        replace(SMALL, per_item=3).check(replace(task, probes=(bare,)), RUN)
