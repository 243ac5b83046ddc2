"""From a hidden state to the vocabulary, as the model's own last layer does it.

What is read is the rank of the token that matters, or whether it is the likeliest of some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.layout import layout
from unlearn.models.projection import precise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOGITS = 1 << 24  # at most so many exist at once


def unembed(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return final norm and vocabulary projection: from hidden states [n, d] to logits [n, V], at least float32.

    Soft caps and scales that some models add afterwards keep the order of tokens, and are left out.
    """
    norm, head = layout(model).final_norm, model.get_output_embeddings()  # type: ignore[operator]

    def logits(states: Tensor) -> Tensor:
        return precise(head(norm(states.to(head.weight.device, head.weight.dtype))))

    return logits


def ranks(logits: Callable[[Tensor], Tensor], states: Tensor, tokens: Tensor) -> Tensor:
    """Return the rank [n] (float64, CPU; 1: the likeliest) of each token [n] in the logits of its state [n, d].

    Tokens of the same logit share their places' mean; where the logits are not numbers, the token is last.
    """
    with torch.no_grad():
        found = [rank_in(logits(states[part]), tokens[part]) for part in _parts(logits, states)]
    return torch.cat([*found, torch.empty(0, dtype=torch.float64)])


def picks(logits: Callable[[Tensor], Tensor], states: Tensor, options: Sequence[Sequence[int]]) -> Tensor:
    """Return 1 where the first of a state's options (tokens) has the highest logit of them, else 0: [n] (float64, CPU).

    Where several have it, 1 / their number. states: [n, d].
    """
    found = []
    with torch.no_grad():
        for part in _parts(logits, states):
            for row, tokens in zip(logits(states[part]), options[part], strict=True):
                own = row[torch.tensor(tokens, device=row.device)]
                best = own == own.max()
                found.append(float(best[0]) / max(1, int(best.sum())))  # nan is not equal to itself: none is best
    return torch.tensor(found, dtype=torch.float64)


def _parts(logits: Callable[[Tensor], Tensor], states: Tensor) -> list[slice]:
    """Return slices of the states whose logits fit."""
    size = max(1, LOGITS // logits(states[:1]).shape[-1]) if len(states) else 1
    return [slice(start, start + size) for start in range(0, len(states), size)]


def rank_in(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the rank [n] (float64, CPU) of tokens [n] in logits [n, V]: V - #(lower) - (#(equal) - 1) / 2."""
    own = logits.gather(1, tokens.to(logits.device)[:, None])
    lower, equal = (logits < own).sum(1), (logits == own).sum(1)
    return (logits.shape[1] - lower - (equal - 1) / 2).double().cpu()
