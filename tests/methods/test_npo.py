from __future__ import annotations

from math import exp, log

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.npo import NPO


def loss_of(excesses: list[float], beta: float) -> float:
    """-(2 / beta) times the mean log sigmoid, from its definition."""
    return sum(2 / beta * log(1 + exp(-beta * e)) for e in excesses) / len(excesses)


@pytest.mark.parametrize(
    ("reduction", "excesses"),
    [("sequence_sum", [3 - 2, 4 - 1]), ("sequence_mean", [1 / 2, 3 / 1]), ("pooled_token", [7 / 3 - 3 / 3])],
)
def test_by_hand(reduction, excesses: list[float]) -> None:
    nll = torch.tensor([[1.0, 2.0, 9], [4.0, 9, 9], [5.0, 9, 9]], dtype=torch.float64)
    batch = step({"forget": [2, 1], "retain": [1]}, {"forget": [2.0, 1.0]})
    loss = NPO(beta=0.5, reduction=reduction, forget_weight=2, retain_weight=0.1).loss(StubPolicy(nll), batch, None)
    assert loss.total.item() == pytest.approx(2 * loss_of(excesses, 0.5) + 0.1 * 5)
    assert loss.terms["forget"].value.item() == pytest.approx(loss_of(excesses, 0.5))


def test_starts_as_gradient_ascent_on_sequence_sums() -> None:
    nll = torch.tensor([[1.0, 1.0, 0], [4.0, 0, 0]], requires_grad=True)
    batch = step({"forget": [2, 1]}, {"forget": [2.0, 4.0]})
    NPO(beta=0.7, retain_weight=0).loss(StubPolicy(nll), batch, None).total.backward()
    torch.testing.assert_close(nll.grad, torch.tensor([[-1.0, -1, 0], [-1, 0, 0]]) / 2)


@pytest.mark.parametrize(("nll", "gradient"), [(1e4, 0.0), (0.0, -2.0)])
def test_far_from_the_reference_it_stays_finite(nll: float, gradient: float) -> None:
    """Forgotten long since: no gradient any more. Far more likely than under the reference: twice gradient ascent."""
    scores = torch.tensor([[nll, 0.0]], requires_grad=True)
    loss = NPO(beta=1, retain_weight=0).loss(StubPolicy(scores), step({"forget": [1]}, {"forget": [5e3]}), None)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(0 if nll else 2 * 5e3)
    assert scores.grad is not None
    assert scores.grad[0, 0].item() == pytest.approx(gradient)


def test_raw_logits_of_muse() -> None:
    mine, theirs = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method, nll = NPO(beta=0.5, reduction="logits_muse", retain_weight=0), torch.zeros(1, 2, dtype=torch.float64)
    loss = method.loss(StubPolicy(nll, mine), step({"forget": [1]}), StubPolicy(nll, theirs))
    assert loss.total.item() == pytest.approx(loss_of((theirs - mine).flatten().tolist(), 0.5))


def test_without_reference_log_probabilities_it_says_so() -> None:
    with pytest.raises(ValueError, match="no reference log-probabilities"):
        NPO(retain_weight=0).loss(StubPolicy(torch.ones(1, 2)), step({"forget": [1]}), None)


def test_needs() -> None:
    assert NPO().segments == ("forget", "retain")
    assert NPO().reference == {"nll"}
    assert NPO(retain_weight=0).segments == ("forget",)
    assert NPO(retain_weight=0).reference == {"nll"}
    assert NPO(retain_loss="kl").segments == NPO().segments
    assert NPO(retain_loss="kl").reference == {"nll", "model"}
    assert NPO(reduction="logits_muse").segments == ("forget", "retain")
    assert NPO(reduction="logits_muse").reference == {"model"}
