from __future__ import annotations

import pytest
import torch
from stub_policy import StubPolicy, step

from unlearn.methods.pdu import PDU

NLL = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 0.0]], dtype=torch.float64)
BATCH = step({"forget": [2], "retain": [2]})
LOGITS = torch.tensor(
    [[[4.0, 0, 2], [1, 1, 1], [9, 0, 0], [0, 0, 0]], [[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]],
    dtype=torch.float64,
)


@pytest.mark.parametrize(
    ("positions", "values"),
    [
        ("predicting", [(4 - 2) ** 2, 0]),  # the first token's prediction is at the prompt's only token
        ("reference_unshifted", [0, (9 - 3) ** 2]),
    ],
)
def test_by_hand(positions, values: list[float]) -> None:
    method = PDU(forget_weight=0.5, retain_weight=10, bound=1.5, positions=positions)
    state = method.begin(None, [], 0)  # type: ignore[arg-type]
    loss = method.loss(StubPolicy(NLL, LOGITS), BATCH, None, state)
    assert loss.terms["forget"].value.item() == pytest.approx(sum(values) / 2)
    assert loss.terms["retain"].value.item() == 2.0
    assert loss.total.item() == pytest.approx(0.5 * sum(values) / 2 + 10 * (2.0 - 1.5))


def test_the_multiplier_follows_the_loss_after_the_warmup_and_stays_above_0() -> None:
    method = PDU(retain_weight=2, bound=1.0, rate=3, warmup_steps=1)
    state = method.begin(None, [], 0)  # type: ignore[arg-type]
    found = []
    for retain in (5.0, 1.5, 0.9, 0.0, 0.0):
        method.after_step({"retain": retain}, state)
        found.append(state["multiplier"].item())
    assert found == pytest.approx([2.0, 3.5, 3.2, 0.2, 0.0])


def test_each_side_alone() -> None:
    method = PDU(retain_weight=2)
    state = method.begin(None, [], 0)  # type: ignore[arg-type]
    forget = method.loss(StubPolicy(NLL, LOGITS), BATCH, None, state, {"forget"})
    retain = method.loss(StubPolicy(NLL, LOGITS), BATCH, None, state, {"retain"})
    assert (list(forget.terms), list(retain.terms)) == (["forget"], ["retain", "bound"])


def test_needs() -> None:
    assert PDU().segments == ("forget", "retain")
    assert PDU().reference == frozenset()
    assert PDU(retain_loss="kl").reference == {"model"}
    assert PDU(retain_loss="kl").compared() == {"retain": "attended"}
