"""Norm of the gradient that one row would give, the only membership signal that needs a backward pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from unlearn.models.interventions.base import gated_at
from unlearn.models.projection import projection_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn
    from transformers import PreTrainedModel

    from unlearn.data.prompt import Encoded


def gradient_norms(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    pad_id: int,
    eos_id: int | None,
    mask_pad: bool = False,
    p: float = 2.0,
    progress: Callable[[int], object] | None = None,
) -> list[float]:
    """Return the mean over parameter tensors of ||d L / d tensor||_p for each row, L its mean token loss (nats).

    L leaves out EOS at the end; a row without another labelled token gives nan. All floating-point parameters count,
    frozen ones too, so that models trained under a mask compare with others; `requires_grad` is put back.
    One row at a time, in the mode (train or eval) that the model is in. mask_pad: see likelihoods.
    progress: called with the number of rows done since the last call.
    """
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    parameters = [parameter for parameter in required if parameter.is_floating_point()]
    norms = []
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for row in rows:
            end = len(row.ids) - (row.ids[-1] == eos_id)
            norms.append(_gradient_norm(model, parameters, row, end, pad_id if mask_pad else None, p))
            if progress:
                progress(1)
    finally:
        for parameter, flag in required.items():
            parameter.requires_grad_(flag)
    return norms


def _gradient_norm(
    model: PreTrainedModel, parameters: list[nn.Parameter], row: Encoded, end: int, masked: int | None, p: float
) -> float:
    """Return that of one row's labelled tokens before `end`; tokens equal to `masked` are hidden from attention."""
    if row.n_prompt >= end:
        return math.nan
    ids = torch.tensor([row.ids], device=model.device)
    mask = {} if masked is None else {"attention_mask": (ids != masked).long()}
    index = torch.arange(row.n_prompt - 1, end - 1, device=ids.device)
    with gated_at(model, ids, index), projection_at(model, index):
        logits = model(input_ids=ids, use_cache=False, **mask).logits[0]
    loss = torch.nn.functional.cross_entropy(logits.float(), ids[0, row.n_prompt : end])
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    norms = [torch.linalg.vector_norm(g.float(), p).to(ids.device) for g in gradients if g is not None]
    return torch.stack(norms).mean().item()
