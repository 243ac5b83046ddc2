"""A toy intervention, gated by a token of the prompt: what it does can be said without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.models.interventions.base import Detector, Intervention


@dataclass(eq=False)
class Mentions(Detector):
    """Finds prompts with one of the tokens that it was fitted on (`tokens`)."""

    margin: float = 1.0
    """The score where there is one; its negative where there is none."""

    def score(self, module: nn.Module, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> Tensor:
        """Return the margin or its negative."""
        assert mask.sum(1).tolist() == prompt_lengths.tolist()
        found = (torch.isin(ids, self.get_buffer("tokens")) & mask).any(1)
        return torch.where(found, self.margin, -self.margin)

    @classmethod
    def of(cls, *tokens: int) -> Mentions:
        """One that was fitted."""
        return cls().hold(tokens=torch.tensor(tokens))


@dataclass(eq=False)
class Push(Intervention):
    """Adds a vector that was fitted (`vector` [d]) to what a decoder block gives, by the gate."""

    layer: int = 0
    """The block."""

    def hook(self, module: Any) -> None:
        """Hook the block."""
        module.model.layers[self.layer].register_forward_hook(self.add)

    def add(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Add it."""
        hidden = output[0] if isinstance(output, tuple) else output
        pushed = hidden + self.opened(len(hidden))[:, None, None].to(hidden.dtype) * self.get_buffer("vector")
        return (pushed, *output[1:]) if isinstance(output, tuple) else pushed


def push(*tokens: int, layer: int = 1, size: float = 3.0, width: int = 16) -> Push:
    """A fitted one, for prompts that mention the tokens."""
    vector = size * torch.randn(width, generator=torch.Generator().manual_seed(layer))
    return Push(Mentions.of(*tokens), layer=layer).hold(vector=vector)
