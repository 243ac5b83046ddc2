from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.po import PO

NLL = torch.tensor([[9.0, 9.0, 9.0, 9.0], [1.0, 9.0, 9.0, 9.0], [2.0, 3.0, 4.0, 9.0]])
BATCH = step({"forget": [2], "refusal": [1], "retain": [3]})


def test_separate_means() -> None:
    loss = PO(forget_weight=2, retain_weight=0.5).loss(StubPolicy(NLL), BATCH, None)
    assert loss.total.item() == pytest.approx(2 * 1 + 0.5 * 3)
    assert {name: term.value.item() for name, term in loss.terms.items()} == {"forget": 1.0, "retain": 3.0}


def test_joint_mean_is_over_all_answer_tokens() -> None:
    loss = PO(pooling="joint").loss(StubPolicy(NLL), BATCH, None)
    assert loss.total.item() == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_it_needs_no_forget_answers() -> None:
    assert PO().segments == ("refusal", "retain")
    assert PO().reference == frozenset()
    assert PO(retain_weight=0).segments == ("refusal",)
    assert PO(retain_weight=0).reference == frozenset()
    assert PO(retain_loss="kl").segments == ("refusal", "retain")
    assert PO(retain_loss="kl").reference == {"model"}


@pytest.mark.parametrize("fields", [{"retain_loss": "kl"}, {"retain_weight": 0}])
def test_joint_pooling_needs_an_nll_of_retain_rows(fields) -> None:
    with pytest.raises(ValueError, match="pooling=joint"):
        PO(pooling="joint", **fields)
