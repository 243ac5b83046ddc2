from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.finetune import Finetune


def test_the_pooled_token_mean_of_retain_rows_alone() -> None:
    assert Finetune().segments == ("retain",)
    assert Finetune().reference == frozenset()
    nll = torch.tensor([[9.0, 9.0, 9.0], [1.0, 2.0, 9.0], [6.0, 9.0, 9.0]])
    loss = Finetune().loss(StubPolicy(nll), step({"forget": [2], "retain": [2, 1]}), None)
    assert loss.total.item() == pytest.approx(9 / 3)
    assert list(loss.terms) == ["retain"]
