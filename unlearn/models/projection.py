"""The vocabulary projection of a causal language model, only where it is needed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator


def precise(values: Tensor) -> Tensor:
    """`values` in at least float32, which a log-softmax needs however the model computes."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def projection_at(model: nn.Module, index: Tensor) -> Iterator[None]:
    """While active, a causal LM's `.logits` are [1, n, V]: those of the flat positions `index` [n] of its input [B, T].

    The hidden states are picked out just before the vocabulary projection, so soft caps, scales and biases after it are
    the model's own code, whatever the architecture.
    """

    def pick(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = inputs
        return (hidden.flatten(0, -2).index_select(0, index).unsqueeze(0), *rest)

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
