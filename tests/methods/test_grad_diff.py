from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.grad_diff import GradDiff


def test_ascent_and_descent_with_their_weights() -> None:
    nll = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0]], requires_grad=True)
    loss = GradDiff(forget_weight=0.5, retain_weight=3).loss(
        StubPolicy(nll), step({"forget": [2], "retain": [1]}), None
    )
    loss.total.backward()
    assert loss.total.item() == pytest.approx(-0.5 * 1.5 + 3 * 4)
    assert {name: term.value.item() for name, term in loss.terms.items()} == {"forget": -1.5, "retain": 4.0}
    torch.testing.assert_close(nll.grad, torch.tensor([[-0.25, -0.25, 0], [3, 0, 0]]))


def test_without_a_retain_weight_it_is_gradient_ascent() -> None:
    method = GradDiff(retain_weight=0)
    assert method.segments == ("forget",)
    assert method.reference == frozenset()
    loss = method.loss(StubPolicy(torch.tensor([[1.0, 2.0, 9.0]])), step({"forget": [2]}), None)
    assert loss.total.item() == pytest.approx(-1.5)
    assert list(loss.terms) == ["forget"]
