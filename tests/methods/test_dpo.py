from __future__ import annotations

from math import exp, log

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.dpo import DPO

NLL = torch.tensor([[1.0, 2.0, 9], [4.0, 9, 9], [0.5, 9, 9], [1.5, 2.5, 9]], dtype=torch.float64)
BATCH = step({"forget": [2, 1], "refusal": [1, 2]}, {"forget": [2.0, 1.0], "refusal": [1.0, 5.0]})


def loss_of(margins: list[float], beta: float) -> float:
    """-(2 / beta) times the mean log sigmoid, from its definition."""
    return sum(2 / beta * log(1 + exp(-beta * m)) for m in margins) / len(margins)


@pytest.mark.parametrize(
    ("reduction", "margins"),
    [
        # r(A) - r(F) row by row, with r = S_ref - S: forget S 3 and 4, alternate S 0.5 and 4
        ("sequence_sum", [(1 - 0.5) - (2 - 3), (5 - 4) - (1 - 4)]),
        ("sequence_mean", [(1 - 0.5) / 1 - (2 - 3) / 2, (5 - 4) / 2 - (1 - 4) / 1]),
        ("pooled_token", [(6 - 4.5) / 3 - (3 - 7) / 3]),
    ],
)
def test_by_hand(reduction, margins: list[float]) -> None:
    loss = DPO(beta=0.3, reduction=reduction, retain_weight=0).loss(StubPolicy(NLL), BATCH, None)
    assert loss.total.item() == pytest.approx(loss_of(margins, 0.3))


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_gradient_at_the_reference_does_not_depend_on_beta(beta: float) -> None:
    nll = torch.tensor([[1.0, 1.0, 0], [1.0, 0, 0], [1.0, 0, 0], [2.0, 3.0, 0]], requires_grad=True)
    batch = step({"forget": [2, 1], "refusal": [1, 2]}, {"forget": [2.0, 1.0], "refusal": [1.0, 5.0]})
    DPO(beta=beta, retain_weight=0).loss(StubPolicy(nll), batch, None).total.backward()
    torch.testing.assert_close(nll.grad, torch.tensor([[-1.0, -1, 0], [-1, 0, 0], [1, 0, 0], [1, 1, 0]]) / 2)


def test_needs() -> None:
    assert DPO().segments == ("forget", "refusal", "retain")
    assert DPO().reference == {"nll"}
    assert DPO(retain_weight=0).segments == ("forget", "refusal")
    assert DPO(retain_weight=0).reference == {"nll"}
    assert DPO(retain_loss="kl").segments == DPO().segments
    assert DPO(retain_loss="kl").reference == {"nll", "model"}
