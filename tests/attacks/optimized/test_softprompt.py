"""Soft prompts: where their vectors go, that they are learned within their norm, and that all models give alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import family
from prompted import PAIRS, brief_of, hooks_of, suspect_of

from unlearn.attacks.base import Suspect
from unlearn.attacks.optimized.fitting import fit
from unlearn.attacks.optimized.soft_prompts import ExtraHead, Held, InputVectors
from unlearn.attacks.optimized.softprompt import SHUFFLED, SoftPrompt, shuffled
from unlearn.data.prompt import PromptFormat
from unlearn.runtime.errors import UserError
from unlearn.score.generate import generate
from unlearn.score.likelihood import likelihoods

SMALL = SoftPrompt(vectors=3, steps=(2, 4), rates=(0.05,), batch=2)


def tagged(suspect: Suspect) -> Suspect:
    return replace(suspect, prompt=PromptFormat(chat_template=False, user_start="he: ", user_end="\n"))


@pytest.mark.parametrize("name", ["llama", "gemma", "gemma3", "gpt2", "opt"])
def test_vectors_that_are_embeddings_do_what_the_tokens_do(name: str) -> None:
    model = family(name)
    model.resize_token_embeddings(300)
    suspect = replace(tagged(suspect_of()), model=model)
    soft = InputVectors(suspect, 3, 100.0, 0)
    tokens, held = [40, 41, 42], soft.suspect.prompt
    assert isinstance(held, Held)
    with torch.no_grad():
        soft.vectors.copy_(model.get_input_embeddings()(torch.tensor(tokens)))
    rows = held.encode_all(suspect.tokenizer, [*PAIRS, (PAIRS[0][0], "Oh.")])
    plain = [replace(row, ids=(*row.ids[: held.at], *tokens, *row.ids[held.at + 3 :])) for row in rows]
    for row, question in zip(plain, (PAIRS[0][0], PAIRS[1][0]), strict=False):
        assert suspect.tokenizer.decode([i for i in row.ids if i not in tokens]).startswith(f"he: {question}")
    prompts = [list(row.ids[: row.n_prompt]) for row in plain[:2]]
    expected = generate(model, suspect.tokenizer, prompts, 5, 512)
    scores = likelihoods(model, [[plain[0], plain[2]], [plain[1]]], 0, 512)
    with soft.active():
        asked = held.encode_prompts(suspect.tokenizer, [question for question, _ in PAIRS])
        assert generate(model, suspect.tokenizer, asked, 5, 512) == expected
        for share in (True, False):
            found = likelihoods(model, [[rows[0], rows[2]], [rows[1]]], 0, 512, share_prefix=share)
            for mine, theirs in zip(found, scores, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    assert a.logp == pytest.approx(b.logp, abs=1e-4)
    assert hooks_of(suspect) == 0


def test_a_placeholder_that_occurs_in_a_question_is_a_token_like_any_other() -> None:
    suspect = suspect_of()
    soft = InputVectors(suspect, 2, 1.0, 0)
    held = soft.suspect.prompt
    assert isinstance(held, Held)
    embeddings = suspect.model.get_input_embeddings()
    ids = torch.tensor([[held.token, held.token, 5, held.token], [5, held.token, 6, 7]])
    with soft.active():
        found = embeddings(ids)
        single = embeddings(torch.tensor([[held.token]]))
    torch.testing.assert_close(found[0, :2], soft.vectors)
    torch.testing.assert_close(found[0, 2:], embeddings(ids[0, 2:]))
    torch.testing.assert_close(found[1], embeddings(ids[1]))  # too few of them: no prompt at all
    torch.testing.assert_close(single[0, 0], embeddings(torch.tensor(held.token)))


def test_the_extra_head_adds_what_it_reads() -> None:
    suspect = suspect_of()
    head = ExtraHead(suspect, 3, 1.0, 0)
    ids = torch.tensor([[7, 8]])
    plain = suspect.model.get_input_embeddings()(ids)
    with head.active(), torch.no_grad():
        found = suspect.model.get_input_embeddings()(ids)
    for t in range(2):
        q = plain[0, t] @ head.query
        scores = torch.stack([q @ key / 4 for key in head.keys])
        expected = plain[0, t] + sum(w * v for w, v in zip(scores.softmax(0), head.values, strict=True))
        torch.testing.assert_close(found[0, t], expected)


@pytest.mark.parametrize("kind", [InputVectors, ExtraHead])
def test_learning_lowers_the_loss_on_all_questions_within_the_norm(kind: type[InputVectors] | type[ExtraHead]) -> None:
    suspect = suspect_of()
    soft = kind(suspect, 3, 0.5, 0)
    rows = soft.suspect.prompt.encode_all(suspect.tokenizer, PAIRS)

    def loss() -> float:
        with soft.active():
            return -sum(float(s[0].logp.mean()) for s in likelihoods(suspect.model, [[row] for row in rows], 0, 512))

    before = loss()
    fit(soft, PAIRS, 30, 0.05, 2, 0)
    assert loss() < before - 0.1
    norm = 0.5 * suspect.model.get_input_embeddings().weight.norm(dim=1).mean()
    learned = [tensor.detach() for tensor in soft.parameters]
    bounded = learned if kind is InputVectors else learned[1:]
    assert all(float(row.norm()) <= float(norm.detach()) * (1 + 1e-5) for tensor in bounded for row in tensor)
    assert torch.isclose(max(row.norm() for row in learned[-1]), norm, rtol=1e-3) or kind is ExtraHead


@pytest.mark.parametrize("form", ["vectors", "key_value"])
def test_all_models_give_the_same_outcomes_and_are_left_alone(form: str) -> None:
    attack = replace(SMALL, form=form, per_item=2)
    suspect, brief = suspect_of(), brief_of(scored=2, seeds=(0, 1))
    before = [parameter.detach().clone() for parameter in suspect.model.parameters()]
    outcomes = attack.attack(suspect, brief).outcomes
    rows = [("", "rate 0.05, 2 steps"), ("", "rate 0.05, 4 steps")]
    one = [*rows, *((SHUFFLED, variant) for _, variant in rows), ("per_item", "2 steps")]
    assert [(o.row, o.variant) for o in outcomes] == one * 2
    assert [o.seed for o in outcomes] == [0] * 5 + [1] * 5
    assert [o.counts for o in outcomes[:5]] == [True, True, False, False, False]
    assert all((o.choice is None) == (o.row == "per_item") for o in outcomes)
    assert all(torch.equal(a, b) for a, b in zip(before, suspect.model.parameters(), strict=True))
    assert hooks_of(suspect) == 0
    assert type(suspect.prompt) is PromptFormat


def test_the_surer_of_two_that_are_always_right_is_taken() -> None:
    from unlearn.attacks.setting.knowledge import ask
    from unlearn.attacks.setting.self_estimate import judge_with_choice

    suspect, brief = suspect_of(), brief_of()
    outcome = judge_with_choice(suspect, brief, "plain")
    sure = ask(suspect, brief, [item.probe for item in brief.taught], "prob").known.mean()
    assert outcome.choice == pytest.approx((outcome.taught or 0.0) + sure / 1000)


def test_no_question_keeps_its_answer_when_answers_are_shuffled() -> None:
    pairs = [(str(i), chr(97 + i)) for i in range(6)]
    for seed in range(5):
        mixed = shuffled(pairs, seed)
        assert [question for question, _ in mixed] == [question for question, _ in pairs]
        assert sorted(answer for _, answer in mixed) == sorted(answer for _, answer in pairs)
        assert not set(mixed) & set(pairs)


def test_forcing_wants_wrong_answers() -> None:
    brief = brief_of()
    task = brief.task
    probes = task.probes[0]
    bare = replace(probes, probes=tuple(replace(p, perturbed_answers=()) for p in probes.probes))
    SMALL.check(replace(task, probes=(bare,)))
    with pytest.raises(UserError, match="wrong answers"):
        replace(SMALL, per_item=3).check(replace(task, probes=(bare,)))
