"""What an attack costs: wall time, and arithmetic counted at the linear layers."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from unlearn.runtime.resources import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Effort(Meter):
    """Measure, as a context manager, the seconds and the arithmetic of every model that runs meanwhile.

    A linear layer of N weights costs 2 N operations a token forward. Where gradients flow back through it, it costs as
    many for its input's, and as many again for its weights' if these are trained: 2 N, 4 N (prompts, strings and
    activations are fitted so; nearly so adapters) or 6 N. Whatever is no plain linear layer is left out; attention
    scores are small at these lengths.
    """

    gflop: float = 0.0
    """10^9 operations of all passes so far."""

    def __enter__(self) -> Effort:
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        # hooks for all modules would slow every one of them down, by a fifth in a tiny model
        kinds: list[Any] = [nn.Linear, Conv1D]
        self._forwards = [(kind, kind.forward) for kind in kinds]
        for kind, forward in self._forwards:
            kind.forward = self._counted(forward)
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        for kind, forward in self._forwards:
            kind.forward = forward

    def _counted(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(forward)
        def counted(module: Any, given: Tensor) -> Tensor:
            output, passes = forward(module, given), 1
            if output.requires_grad:
                passes += given.requires_grad + module.weight.requires_grad
            self.gflop += 2e-9 * passes * module.weight.numel() * output.numel() / output.shape[-1]
            return output

        return counted
