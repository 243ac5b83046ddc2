from __future__ import annotations

import pytest
import torch
from scipy.stats import entropy
from stub_policy import StubPolicy, step

from unlearn.methods.kl import KL

BATCH = step({"forget": [2], "retain": [1]})
NLL = torch.tensor([[1.0, 2.0, 9.0], [9.0, 9.0, 9.0]], dtype=torch.float64)
LOGITS, REFERENCE = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def kl(row: int, positions: slice) -> float:
    """Mean KL(reference || current) over positions of a row, by scipy."""
    p, q = REFERENCE[row].softmax(-1).numpy(), LOGITS[row].softmax(-1).numpy()
    return float(entropy(p[positions], q[positions], axis=-1).mean())


@pytest.mark.parametrize(
    ("where", "retained", "forgotten"),
    [("labels", slice(0, 1), slice(0, 2)), ("attended", slice(0, 2), slice(0, 3)), ("all", slice(0, 4), slice(0, 4))],
)
def test_ascent_with_forward_kl(where, retained: slice, forgotten: slice) -> None:
    method = KL(forget_weight=2, retain_weight=3, forget_kl_weight=-0.5, kl_positions=where)
    loss = method.loss(StubPolicy(NLL, LOGITS), BATCH, StubPolicy(NLL, REFERENCE))
    expected = -2 * 1.5 + 3 * kl(1, retained) - 0.5 * kl(0, forgotten)
    assert loss.total.item() == pytest.approx(expected)
    assert list(loss.terms) == ["forget", "retain", "forget_kl"]


def test_needs() -> None:
    assert KL().segments == ("forget", "retain")
    assert KL().reference == {"model"}
    assert KL(retain_weight=0).segments == ("forget",)
    assert KL(retain_weight=0).reference == frozenset()
    assert KL(retain_weight=0, forget_kl_weight=1).segments == ("forget",)
    assert KL(retain_weight=0, forget_kl_weight=1).reference == {"model"}


def test_the_reference_model_gets_no_gradient() -> None:
    theirs, mine = REFERENCE.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    KL().loss(StubPolicy(NLL, mine), BATCH, StubPolicy(NLL, theirs)).total.backward()
    assert theirs.grad is None
    assert mine.grad is not None
    assert mine.grad[1].any()
    assert not mine.grad[0].any()
