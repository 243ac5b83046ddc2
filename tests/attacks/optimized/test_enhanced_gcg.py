"""Enhanced GCG: its loss term by term, its operators, and that its search gets somewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from beside import beside
from prompted import PAIRS, POSED, hooks_of, model_of, setting_of, subject_of

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.optimized.enhanced_gcg import EnhancedGCG, ImitationLoss, original_runs
from unlearn.attacks.optimized.strings import Slot

ORIGINAL = beside(subject_of(1))
SMALL = EnhancedGCG(steps=(2, 12), length=6, items=2, proposals=8, topk=20, tokens=6, forced=2, layer=0.5)


def weighted(layer: float, forced: int, distance: float, fluency: float, repetition: float) -> EnhancedGCG:
    return EnhancedGCG(layer=layer, forced=forced, distance=distance, fluency=fluency, repetition=repetition)


@pytest.fixture
def setting() -> tuple:
    subject = subject_of()
    ids, frames = Slot(subject, "prefix").start(POSED, 4)
    original = replace(subject, module=model_of(1))
    return subject, ids, frames, original


def test_the_loss_is_the_sum_of_its_terms(setting: tuple) -> None:
    subject, ids, frames, original = setting
    runs = original_runs(original, POSED, 0.5)
    string = (*ids[:2], 30, 30)
    goal = ImitationLoss(weighted(0.5, 1, 0.7, 1.5, 3.0), subject, frames, runs)
    expected = 3.0 * (1 - len(set(string)) / 4)
    for (question, answer), frame in zip(PAIRS, frames, strict=True):
        row = torch.tensor([[*frame.before, *string, *frame.after]])
        plain = original.prompt.encode(original.processor, question, answer)
        with torch.no_grad():
            out = subject.module(input_ids=row, output_hidden_states=True)
            aim = original.module(input_ids=torch.tensor([plain.ids]), output_hidden_states=True)
        logp, n = out.logits[0].log_softmax(-1), frame.labels
        forced = -logp[-n - 1, row[0, -n]]
        theirs = aim.logits[0, plain.n_prompt : -1].softmax(-1)
        matched = -(theirs * logp[-n:-1]).sum()
        h, wanted = out.hidden_states[1][0], aim.hidden_states[1][0]
        k = min(len(frame.after), len(wanted))
        distance = (h[-k:] - wanted[-k:]).square().sum(-1).mean() / wanted[-k:].square().sum(-1).mean()
        own = [-logp[i - 1, row[0, i]] for i in range(max(1, len(frame.before)), len(frame.before) + 4)]
        terms = (forced + matched) / n + 0.7 * distance + 1.5 * sum(own) / len(own)
        expected += float(terms) / len(frames)
    assert goal.losses([string]).tolist() == pytest.approx([expected], rel=1e-4)


def test_the_original_imitates_itself(setting: tuple) -> None:
    subject, ids, frames, _ = setting
    runs = original_runs(subject, POSED, 1.0)
    goal = ImitationLoss(weighted(1.0, 0, 1.0, 0.0, 0.0), subject, frames, runs)
    entropy = sum(float(-(run.logp.exp() * run.logp).sum(-1).mean()) for run in runs) / 2
    assert float(goal.losses([ids])[0]) >= entropy  # a cross-entropy is never below the entropy


def test_the_gradient_is_that_of_the_smooth_terms(setting: tuple) -> None:
    subject, ids, frames, original = setting
    goal = ImitationLoss(weighted(0.5, 1, 1.0, 0.0, 0.0), subject, frames, original_runs(original, POSED, 0.5))
    gradient, embeddings = goal.gradient(ids), subject.module.get_input_embeddings()
    position, token, step = 2, 40, 1e-2
    base = embeddings.weight.detach().clone()

    def moved(share: float) -> float:
        def mix(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[:, len(frames[0].before) + position] += share * base[token]
            return output

        handle = embeddings.register_forward_hook(mix)
        try:
            return float(goal.losses([ids])[0])
        finally:
            handle.remove()

    slope = (moved(step) - moved(-step)) / (2 * step)
    assert float(gradient[position, token]) == pytest.approx(slope, rel=0.05, abs=1e-3)


@pytest.mark.parametrize(("operator", "change"), [(0, 0), (1, -1), (2, 1), (3, 0)])
def test_operators_change_what_they_say(setting: tuple, operator: int, change: int) -> None:
    subject, ids, frames, original = setting
    chances: Any = tuple(float(i == operator) for i in range(4))
    goal = ImitationLoss(weighted(0.5, 1, 1.0, 1.0, 1.0), subject, frames, original_runs(original, POSED, 0.5))
    attack = replace(SMALL, operators=chances, length=3)
    for candidate in attack._proposed(goal, ids, Slot(subject, "prefix").allowed, torch.Generator().manual_seed(0)):
        assert len(candidate) == len(ids) + change
    shortest = replace(attack, length=len(ids))
    found = shortest._proposed(goal, ids, Slot(subject, "prefix").allowed, torch.Generator().manual_seed(0))
    assert all(len(candidate) == len(ids) + max(0, change) for candidate in found)  # never shorter than `length`


def test_the_search_never_ends_worse_and_its_prefix_can_be_sent() -> None:
    subject, said = subject_of(), []
    first, best, *_ = SMALL.search(subject, ORIGINAL, [q for q, _ in POSED], 0, lambda step, text: said.append(text))
    assert best[0] < first[0]
    opened = Slot(subject, "prefix").open(POSED, said[-1])
    assert opened is not None
    assert opened[0] == best[1]
    assert hooks_of(subject) == 0


def test_it_goes_on_from_an_earlier_prefix() -> None:
    subject, said = subject_of(), []
    questions = [q for q, _ in POSED]
    SMALL.search(subject, ORIGINAL, questions, 0, lambda step, text: said.append(text))
    first, *_ = replace(SMALL, start=said[-1]).search(
        subject, ORIGINAL, [q for q, _ in POSED], 1, lambda step, text: None
    )
    assert Slot(subject, "prefix").text(first[1]) == said[-1]


def test_an_original_that_is_silent_cannot_be_imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    import unlearn.attacks.optimized.enhanced_gcg as enhanced_gcg

    monkeypatch.setattr(enhanced_gcg, "continuations", lambda *args: [])
    with pytest.raises(Inapplicable, match="nothing to imitate"):
        SMALL.attack(subject_of(), setting_of(), ORIGINAL)


def test_every_model_gives_the_same_outcomes() -> None:
    attacked = SMALL.attack(subject_of(), setting_of(seeds=(0, 2)), ORIGINAL)
    assert [(o.variant, o.seed) for o in attacked.outcomes] == [
        ("2 steps", 0),
        ("12 steps", 0),
        ("2 steps", 2),
        ("12 steps", 2),
    ]
    assert all(outcome.with_original for outcome in attacked.outcomes)


def test_chances_cannot_all_be_0() -> None:
    with pytest.raises(ValueError, match="operators"):
        EnhancedGCG(operators=(0.0, 0.0, 0.0, 0.0))
