from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.grad_ascent import GradAscent


def test_minus_the_pooled_token_mean() -> None:
    nll = torch.tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0]], requires_grad=True)
    loss = GradAscent().loss(StubPolicy(nll), step({"forget": [2, 1]}), None)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(-6 / 3)
    assert {name: term.value for name, term in loss.terms.items()} == {"forget": loss.total}
    torch.testing.assert_close(nll.grad, torch.tensor([[-1.0, -1, 0], [-1, 0, 0]]) / 3)


def test_looks_at_forget_rows_alone() -> None:
    assert GradAscent().segments == ("forget",)
    assert GradAscent().reference == frozenset()
    nll = torch.tensor([[1.0, 2.0, 0], [9.0, 9.0, 9.0]])
    loss = GradAscent().loss(StubPolicy(nll), step({"forget": [2], "retain": [2]}), None)
    assert loss.total.item() == pytest.approx(-1.5)
