from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from unlearn.data.prompt import Encoded
from unlearn.score.gradient import gradient_norms

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

EOS = 1
ROWS = [Encoded((5, 9, 30, 11, 12, EOS), 3), Encoded((7, 8, EOS), 1), Encoded((7, 0, 22, 14), 3)]


@pytest.mark.parametrize("mask_pad", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_mean_of_the_tensors_norms(model: LlamaForCausalLM, p: float, mask_pad: bool) -> None:
    expected = []
    for row in ROWS:
        model.zero_grad()
        ids = torch.tensor([row.ids])
        mask = {"attention_mask": (ids != 0).long()} if mask_pad else {}
        logp = model(ids, **mask).logits[0].log_softmax(-1)
        positions = range(row.n_prompt, len(row.ids) - (row.ids[-1] == EOS))
        (-sum(logp[t - 1, row.ids[t]] for t in positions) / len(positions)).backward()
        gradients: list[Any] = [parameter.grad for parameter in model.parameters()]
        norms = [(gradient.abs() ** p).sum() ** (1 / p) for gradient in gradients]
        expected.append(float(sum(norms)) / len(norms))
    model.zero_grad()
    assert gradient_norms(model, ROWS, 0, EOS, mask_pad, p) == pytest.approx(expected, rel=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parameters_count_and_stay_frozen(model: LlamaForCausalLM) -> None:
    expected = gradient_norms(model, ROWS, 0, EOS)
    frozen = list(model.parameters())[::2]
    for parameter in frozen:
        parameter.requires_grad_(False)
    assert gradient_norms(model, ROWS, 0, EOS) == pytest.approx(expected)
    assert {id(p) for p in model.parameters() if not p.requires_grad} == {id(p) for p in frozen}


def test_a_row_of_eos_alone_has_no_norm(model: LlamaForCausalLM) -> None:
    done: list[int] = []
    [norm] = gradient_norms(model, [Encoded((5, EOS), 1)], 0, EOS, progress=done.append)
    assert norm != norm
    assert done == [1]
