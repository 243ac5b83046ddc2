"""The loss of answers that GCG lowers, its gradient, and when it is solved."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from prompted import POSED, subject_of

from unlearn.attacks.optimized.coordinate_search import AnswerLoss
from unlearn.attacks.optimized.strings import Slot


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("alpha", [None, 0.7])
def test_the_loss_is_that_of_a_plain_forward(cached: bool, alpha: float | None) -> None:
    subject = subject_of()
    slot = Slot(subject, "suffix")
    ids, frames = slot.start(POSED, 4)
    candidates = [ids, (*ids[:2], 20, 21), (30, 31, *ids[2:])]
    goal = AnswerLoss(replace(subject, token_budget=40), frames, alpha, prefix_cache=cached)
    expected = []
    for candidate in candidates:
        losses = []
        for frame in frames:
            row = torch.tensor([[*frame.before, *candidate, *frame.after]])
            with torch.no_grad():
                logits = subject.module(input_ids=row).logits[0]
            n = frame.labels
            if alpha is None:
                losses.append(torch.nn.functional.cross_entropy(logits[-n - 1 : -1], row[0, -n:]).item())
            else:
                x = [-logits[-n - 1 + i, row[0, -n + i]].item() for i in range(n)]
                losses.append(math.log(sum(math.exp(alpha * value) for value in x) / n) / alpha)
        expected.append(sum(losses) / len(losses))
    assert goal.losses(candidates).tolist() == pytest.approx(expected, rel=1e-4)
    assert goal.losses(candidates).tolist() == pytest.approx(expected, rel=1e-4)  # the cache is not used up


@pytest.mark.parametrize("cached", [True, False])
def test_the_gradient_of_answers_does_not_depend_on_the_cache(cached: bool) -> None:
    subject = subject_of()
    ids, frames = Slot(subject, "suffix").start(POSED, 4)
    goal = AnswerLoss(subject, frames, prefix_cache=cached)
    found = goal.gradient(ids, 1)
    frame = frames[0]
    row = torch.tensor([[*frame.before, *ids, *frame.after]])
    embeddings: Any = subject.module.get_input_embeddings()
    table = embeddings.weight.detach()
    hot = torch.nn.functional.one_hot(row, len(table)).float().requires_grad_()
    logits = subject.module(inputs_embeds=hot @ table).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[-frame.labels - 1 : -1], row[0, -frame.labels :])
    (expected,) = torch.autograd.grad(loss, hot)
    start = len(frame.before)
    torch.testing.assert_close(found, expected[0, start : start + 4], rtol=1e-3, atol=1e-5)


def test_solved_is_when_every_answer_token_comes_first() -> None:
    subject = subject_of()
    slot = Slot(subject, "suffix")
    ids, frames = slot.start(POSED, 4)
    assert not AnswerLoss(subject, frames).solved(ids)
    frame = frames[0]
    row = [*frame.before, *ids, *frame.after[: -frame.labels]]
    for _ in range(2):
        with torch.no_grad():
            row.append(int(subject.module(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    greedy = replace(frame, after=tuple(row[len(frame.before) + 4 :]), labels=2)
    assert AnswerLoss(subject, [greedy, *frames]).solved(ids, 1)
