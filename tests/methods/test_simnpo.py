from __future__ import annotations

from math import exp, log

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.simnpo import SimNPO


def loss_of(values: list[float], beta: float) -> float:
    """-(2 / beta) times the mean log sigmoid, from its definition."""
    return sum(2 / beta * log(1 + exp(-beta * v)) for v in values) / len(values)


@pytest.mark.parametrize(
    ("reduction", "values"),
    [("sequence_mean", [1.5 - 0.2, 4 - 0.2]), ("sequence_sum", [3 - 0.2, 4 - 0.2]), ("pooled_token", [7 / 3 - 0.2])],
)
def test_by_hand(reduction, values: list[float]) -> None:
    nll = torch.tensor([[1.0, 2.0, 9], [4.0, 9, 9], [5.0, 9, 9]], dtype=torch.float64)
    method = SimNPO(beta=0.5, margin=0.2, reduction=reduction, forget_weight=2, retain_weight=0.1)
    loss = method.loss(StubPolicy(nll), step({"forget": [2, 1], "retain": [1]}), None)
    assert loss.total.item() == pytest.approx(2 * loss_of(values, 0.5) + 0.1 * 5)


def test_raw_logits_of_its_muse_code() -> None:
    logits = torch.randn(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = SimNPO(beta=0.7, margin=0.3, reduction="logits_muse", forget_weight=1, retain_weight=0)
    loss = method.loss(StubPolicy(torch.zeros(1, 2, dtype=torch.float64), logits), step({"forget": [1]}), None)
    assert loss.total.item() == pytest.approx(loss_of((-logits - 0.3).flatten().tolist(), 0.7))


def test_it_never_needs_a_reference_for_the_forget_term() -> None:
    assert SimNPO().segments == ("forget", "retain")
    assert SimNPO().reference == frozenset()
    assert SimNPO(retain_weight=0, reduction="logits_muse").segments == ("forget",)
    assert SimNPO(retain_weight=0, reduction="logits_muse").reference == frozenset()
    assert SimNPO(retain_loss="kl").segments == ("forget", "retain")
    assert SimNPO(retain_loss="kl").reference == {"model"}
