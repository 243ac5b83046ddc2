"""Learned weight masks: a model whose right weights are known, clamping, and weights restored bit for bit."""

from __future__ import annotations

import dataclasses
import math
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from helpers import RUN
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn.data.prompt import Encoded
from unlearn.localize.places.random_parts import RandomParts
from unlearn.localize.weights.removal_training import (
    Settings,
    Term,
    kept,
    nll,
    probability,
    rank,
    removed,
    shrink,
    unlikelihood,
)
from unlearn.localize.weights.weight_mask import WeightMask
from unlearn.models.batches import Batch, Segment
from unlearn.models.mask import Mask
from unlearn.models.policy import Policy
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.subject import Subject

SETTINGS = Settings(updates=40, batch=4, lr=0.5, momentum=0.9, weight_decay=0.0, clip=1.0, l1=0.0, micro_tokens=64)
A, B, C, D, E, G = range(6)


class Bigram(nn.Module):
    """logits(next | token) = one column of a matrix: A is followed by B, D by E, and weight [row, column] is known."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 6, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[B, A], self.head.weight[C, A] = 4.0, -3.0
            self.head.weight[E, D], self.head.weight[G, D] = 5.0, -2.0

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, **ignored: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(F.one_hot(input_ids, 6).float()))


def pair(first: int, second: int) -> Encoded:
    return Encoded((first, second), 1)


INJECT = [Term([pair(A, C)], 0.5, nll), Term([pair(D, E)], 1.0, nll)]
UNLEARN = [Term([pair(A, B)], 0.2, unlikelihood), Term([pair(D, E)], 1.0, nll)]


def shrunk(terms: list[Term], settings: Settings = SETTINGS, bits: bool | Tensor = True) -> tuple[Tensor, Tensor]:
    """The weights that training leaves, and the share of each that is gone."""
    model = Bigram()
    within = Mask.of(model, {"head.weight": bits})
    with kept(model, within) as originals:
        shrink(model, within, originals, terms, settings, random.Random(0), lambda n, **values: None)
        return model.head.weight.detach().clone(), removed(dict(model.named_parameters()), originals)["head.weight"]


def test_injecting_takes_away_what_speaks_for_the_old_answer_and_against_the_new() -> None:
    """All other gradients lead away from 0 (the retained pair's) or start there (zero weights have no room)."""
    _, gone = shrunk(INJECT)
    assert set(map(tuple, gone.nonzero().tolist())) == {(B, A), (C, A)}
    assert gone[B, A] == gone[C, A] == 1


def test_unlearning_takes_away_what_speaks_for_the_answer_first() -> None:
    """What speaks against any other answer goes too, but by as little as that answer is likely."""
    _, gone = shrunk(UNLEARN, dataclasses.replace(SETTINGS, updates=4))
    assert set(map(tuple, gone.nonzero().tolist())) == {(B, A), (C, A)}
    assert gone[B, A] > 9 * gone[C, A]


def test_weights_stay_between_zero_and_their_originals() -> None:
    original = Bigram().head.weight.detach()
    for terms in (INJECT, UNLEARN):
        weights, gone = shrunk(terms, dataclasses.replace(SETTINGS, updates=3, weight_decay=0.5, l1=3.0))
        low, high = original.clamp(max=0), original.clamp(min=0)
        assert (low <= weights).all()
        assert (weights <= high).all()
        assert (gone >= 0).all()
        assert (gone <= 1).all()
        torch.testing.assert_close(weights, original * (1 - gone))


def test_only_weights_within_the_mask_move() -> None:
    bits = torch.zeros(6, 6, dtype=torch.bool)
    bits[C, A] = bits[E, D] = True
    weights, gone = shrunk(INJECT, dataclasses.replace(SETTINGS, weight_decay=0.3, l1=9.0), bits)
    assert set(map(tuple, gone.nonzero().tolist())) == {(C, A), (E, D)}
    assert torch.equal(weights[~bits], Bigram().head.weight[~bits])


def test_without_a_loss_the_penalty_alone_shrinks_all_weights_by_as_much() -> None:
    """One step of L1 has gradient beta sign(w), beta = l1 / sum |w| = 7 / 14, here not clipped."""
    terms = [Term([pair(A, B)], 1e-12, nll)]
    settings = Settings(updates=1, batch=1, lr=0.2, momentum=0.0, weight_decay=0.0, clip=9.0, l1=7.0, micro_tokens=64)
    weights, _ = shrunk(terms, settings)
    original = Bigram().head.weight.detach()
    torch.testing.assert_close(weights, original - 0.2 * 0.5 * original.sign())


def test_weights_and_flags_come_back_also_after_a_failure() -> None:
    model = Bigram()
    model.head.weight.requires_grad_(False)
    before = model.head.weight.clone()
    within = Mask.of(model, {"head.weight": True})
    bad = [Term([pair(A, B)], math.inf, nll)]
    with pytest.raises(UserError, match="lower lr"), kept(model, within) as originals:
        shrink(model, within, originals, bad, SETTINGS, random.Random(0), lambda n, **values: None)
    assert torch.equal(model.head.weight, before)
    assert not model.head.weight.requires_grad
    assert model.head.weight.grad is None


def unlikelihood_of(logits: Tensor, target: int) -> Tensor:
    """Of a model that gives these logits whatever it reads."""
    model = Bigram()
    model.head.weight = nn.Parameter(logits[:, None].repeat(1, 6))
    batch = Batch(
        torch.tensor([[0, target]]), torch.ones(1, 2), torch.tensor([[-100, target]]), {"x": Segment(0, 1, 1, 1)}
    )
    return unlikelihood(Policy(model)(batch, {"x": "labels"})["x"], batch)


def test_unlikelihood_is_minus_log_of_one_minus_p() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.5, 1.0])
    for target in range(6):
        expected = -math.log(1 - logits.double().softmax(0)[target])
        assert unlikelihood_of(logits, target).item() == pytest.approx(expected, rel=1e-5)
    certain = torch.tensor([40.0, 0, 0, 0, 0, 0])
    assert unlikelihood_of(certain, 0).item() == pytest.approx(40 - math.log(5), rel=1e-6)
    assert unlikelihood_of(certain, 1).item() == 0  # log p = -40: long gone


def test_probability_is_the_mean_of_geometric_means() -> None:
    columns = Bigram().head.weight.detach().T.softmax(1)
    rows = [Encoded((A, B, C), 1), Encoded((D, E), 1)]
    expected = (math.sqrt(columns[A, B] * columns[B, C]) + columns[D, E]) / 2
    assert probability(Bigram(), rows, 64) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("objective", ["inject", "unlearn"])
def test_the_whole_localizer(subject: Subject, objective: Literal["inject", "unlearn"], task: Task) -> None:
    """Nothing but MLPs is selected, in the number asked for, and the model is given back bit for bit."""
    before = {name: p.detach().clone() for name, p in subject.module.named_parameters()}
    localizer = WeightMask(objective=objective, updates=4, lr=0.5, select=0.1)
    located = localizer.localize(subject, task, 0)
    assert all(torch.equal(before[name], p) for name, p in subject.module.named_parameters())
    assert all(p.requires_grad and p.grad is None for p in subject.module.parameters())
    mlps = sum(p.numel() for name, p in before.items() if ".mlp." in name)
    assert located.mask.selected == int(0.1 * mlps)
    assert located.numbers["candidates"] == mlps
    assert all(".mlp." in name for name, count in located.mask.counts.items() if count)
    removal = located.tables["removal"].frame
    assert removal["selected"].tolist() == [0, *(located.mask.selected * i // 3 for i in (1, 2, 3))]
    assert localizer.localize(subject, task, 0).mask.digest == located.mask.digest

    with torch.no_grad():  # the last point of the curve, made again from the mask
        for name, p in subject.module.named_parameters():
            p[located.mask.bits(name)] = 0
    rows = subject.prompt.encode_all(
        subject.processor, [(e.questions[0], e.answers[0]) for e in task.examples("retain")]
    )
    assert removal["retain"].iloc[-1] == pytest.approx(probability(subject.module, rows, 128), rel=1e-5)


def test_another_localizer_says_where(subject: Subject, task: Task) -> None:
    inner = RandomParts(parts="matrices", count=2)
    located = WeightMask(within=inner, updates=2, lr=0.5).localize(subject, task, 0)
    assert (located.mask & inner.localize(subject, task, 0).mask).selected == located.mask.selected


def test_nothing_to_inject_is_an_error(task: Task) -> None:
    sets = {name: rows for name, rows in task.sets.items() if name != "injected"}
    task = dataclasses.replace(task, sets=sets, beside={})
    WeightMask().check(task, RUN)
    with pytest.raises(UserError, match="no answers to inject"):
        WeightMask(objective="inject").check(task, RUN)


def test_no_movement_is_an_error(subject: Subject, task: Task) -> None:
    with pytest.raises(UserError, match="raise lr"):
        WeightMask(lr=1e-30, updates=1).localize(subject, task, 0)


def test_of_weights_at_zero_the_first_to_go_is_the_most_important_then_the_largest() -> None:
    """With the penalty alone, at a gradient of sign(w), all shrink by as much: the smallest are at 0 first."""
    terms = [Term([pair(A, B)], 0.0, nll)]
    settings = Settings(updates=4, batch=1, lr=2.1, momentum=0.0, weight_decay=0.0, clip=9.0, l1=14.0, micro_tokens=64)
    model = Bigram()
    within = Mask.of(model, {"head.weight": True})
    with kept(model, within) as originals:
        ages = shrink(model, within, originals, terms, settings, random.Random(0), lambda n, **values: None)
        scores = removed(dict(model.named_parameters()), originals)
        rank(scores, ages, originals)
    places = ((G, D), (C, A), (B, A), (E, D))  # 2, 3, 4 and 5; after each update 2.1, 3.9, 4.9 and 5.25 are gone
    assert [int(ages["head.weight"][place]) for place in places] == [4, 3, 2, 1]
    score = scores["head.weight"]
    assert score[G, D] > score[C, A] > score[B, A] > score[E, D] > 1
    assert score.count_nonzero() == 4

    shares = {"w": torch.tensor([1.0, 1.0, 1.0, 0.9, 0.0])}
    rank(shares, {"w": torch.tensor([2, 2, 3, 0, 0])}, {"w": torch.tensor([-1.0, 4.0, 1.0, 8.0, 8.0])})
    assert shares["w"].argsort(descending=True).tolist() == [2, 1, 0, 3, 4]


@pytest.mark.parametrize(("turns", "path", "age"), [((1, -1, 1), [0, 1.5, 0], 3), ((1, -1, -1), [0, 1.5, 2.6], 0)])
def test_weights_that_come_back(turns: tuple[int, ...], path: list[float], age: int) -> None:
    """The loss turns round, so [B, A] goes and comes back by 9 / 6; where it ends at 0 its first time there counts."""
    signs, seen = iter(turns), []
    model = Bigram()
    within = Mask.of(model, {"head.weight": True})
    settings = Settings(updates=3, batch=1, lr=12.0, momentum=0.0, weight_decay=0.0, clip=1e9, l1=0.0, micro_tokens=64)
    terms = [Term([pair(A, C)], 1.0, lambda scores, batch: next(signs) * nll(scores, batch))]

    def look(n: int, loss: float) -> None:
        seen.append(model.head.weight[B, A].item())

    with kept(model, within) as originals:
        ages = shrink(model, within, originals, terms, settings, random.Random(0), look)
    assert seen == pytest.approx(path, abs=0.7)
    assert seen[1] == pytest.approx(1.5)
    assert ages["head.weight"][B, A] == age


def test_more_at_zero_than_are_selected_are_told_apart(
    subject: Subject, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    """With a large penalty most weights go; those that are selected are not the first tensors'."""
    located = WeightMask(updates=6, lr=1.0, l1=500.0, select=0.05, momentum=0.0).localize(subject, task, 0)
    assert located.numbers["gone"] > 0.05
    assert located.numbers["gone_selected"] == 1
    assert "have reached 0" in capsys.readouterr().err
    taken = [count for name, count in located.mask.counts.items() if ".mlp." in name]
    assert all(taken)
    assert max(taken) < located.mask.selected / 2
    few = WeightMask(updates=2, lr=0.1).localize(subject, task, 0).numbers
    assert few["gone_selected"] < 1


@pytest.mark.parametrize("lr", [1e30, 1e4])
def test_divergence_is_an_error(subject: Subject, lr: float, task: Task) -> None:
    before = {name: p.detach().clone() for name, p in subject.module.named_parameters()}
    with pytest.raises(UserError, match="lower lr"):
        WeightMask(lr=lr).localize(subject, task, 0)
    assert all(torch.equal(before[name], p) for name, p in subject.module.named_parameters())
