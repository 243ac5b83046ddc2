"""Tuned lens: for each layer an affine map after which the model's own last layer reads what it will say in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearn.attacks.internals.readout import unembed
from unlearn.models.layout import layout
from unlearn.models.prompts import collate
from unlearn.models.sites import at_rest, capture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

ROWS, POSITIONS = 8, 256  # of a step
RATE = 1e-3


@dataclass(frozen=True)
class TunedLens:
    """h -> h + h W + b for each of L layers; the last layer's is the identity."""

    weight: Tensor
    """W, [L, d, d]."""
    bias: Tensor
    """b, [L, 1, d]."""

    def translate(self, states: Tensor) -> Tensor:
        """Return states [L, n, d], as the last layer would have them; float32 on the states' device."""
        states = states.float()
        return states + states @ self.weight.to(states.device) + self.bias.to(states.device)


def tuned_lens(model: PreTrainedModel, rows: Sequence[Sequence[int]], steps: int) -> TunedLens:
    """Train the maps, from the identity, to the lowest KL(p of the model || p read at the layer) over tokens of `rows`.

    Adam, at 1e-3 falling linearly to 0; a step takes 8 rows, spread over the set and in the same order for every model,
    and at most 256 of their positions. Layers are trained apart, one graph at a time.
    """
    parts, device = layout(model), next(model.parameters()).device
    logits, n, width = unembed(model), len(parts.blocks), model.config.get_text_config().hidden_size
    weight = torch.zeros(n, width, width, device=device, requires_grad=True)
    bias = torch.zeros(n, 1, width, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with at_rest(model), torch.enable_grad():
        for step in range(steps):
            batch = collate(_spread(rows, step), device)
            found = capture(model, parts, [(layer, "resid") for layer in range(n)], batch)[1]
            where = batch.mask.flatten().nonzero().squeeze(1)
            where = where[:: -(-len(where) // POSITIONS)]
            states = [found[layer, "resid"].flatten(0, 2)[where].float() for layer in range(n)]
            with torch.no_grad():
                final = logits(states[-1]).log_softmax(-1)
            for layer, state in enumerate(states[:-1]):
                read = logits(state + state @ weight[layer] + bias[layer]).log_softmax(-1)
                F.kl_div(read, final, reduction="batchmean", log_target=True).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return TunedLens(weight.detach(), bias.detach())


def _spread(rows: Sequence[Sequence[int]], step: int) -> list[Sequence[int]]:
    """Return the rows of a step: `ROWS` apart evenly, one further on at every step."""
    return [rows[(step + i * len(rows) // ROWS) % len(rows)] for i in range(min(ROWS, len(rows)))]
