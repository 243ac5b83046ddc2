"""Gradients that are handed on tensor by tensor and never kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn


@contextmanager
def gradients_to(
    model: nn.Module, group: Mapping[str, nn.Parameter], take: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """While active, backward hands each gradient of the group to `take` and keeps none; other parameters get none."""
    required, training = {p: p.requires_grad for p in model.parameters()}, model.training

    def hook(name: str) -> Callable[[Tensor], None]:
        def consume(parameter: Tensor) -> None:
            assert parameter.grad is not None
            take(name, parameter.grad)
            parameter.grad = None

        return consume

    model.eval()
    model.requires_grad_(False)
    handles = []
    try:
        for name, parameter in group.items():
            parameter.requires_grad_(True)
            handles.append(parameter.register_post_accumulate_grad_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in required.items():
            parameter.requires_grad_(flag)
            parameter.grad = None
        model.train(training)
