"""Optimizers of torch as the innermost update, and their state as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlearn.training.half_adamw import HalfAdamW

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from unlearn.recipe import Recipe
    from unlearn.training.objective import Losses
    from unlearn.training.update import Gradient
    from unlearn.training.weights import Weights

Parameters = Mapping[str, nn.Parameter]


class Optimizers:
    """Clip, mask, decay and step: each weight is of one of the optimizers, whose groups know their `peak_lr`."""

    def __init__(self, weights: Weights, recipe: Recipe, optimizers: Sequence[Optimizer]) -> None:
        self.weights, self.recipe, self.optimizers = weights, recipe, optimizers
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    def step(self, gradient: Gradient, lr_factor: float) -> Losses:
        """Take a step; "lr" is that of the last optimizer (AdamW where it has any weights)."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * lr_factor
        losses = gradient()
        norm = self._clip()
        if self.recipe.clip_order == "clip_first":
            self.weights.mask_gradients()
        self.weights.decay(self.optimizers)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {"lr": self.optimizers[-1].param_groups[0]["lr"], "grad_norm": norm.item(), **losses}

    def _clip(self) -> Tensor:
        parameters = [p for p in self.weights.trainable.values() if p.grad is not None]
        limit = self.recipe.clip
        return nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)

    def state(self) -> dict[str, Tensor]:
        """Return all states as named tensors ("0.17.exp_avg": optimizer, parameter number, entry)."""
        return {
            f"{o}.{p}.{entry}": torch.as_tensor(value)
            for o, optimizer in enumerate(self.optimizers)
            for p, state in optimizer.state_dict()["state"].items()
            for entry, value in state.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        for name, value in state.items():
            o, p, entry = name.split(".", 2)
            states[int(o)].setdefault(int(p), {})[entry] = value
        for optimizer, mine in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({"state": mine, "param_groups": optimizer.state_dict()["param_groups"]})

    def finish(self) -> None:
        """Nothing is left to do."""


def adamw(weights: Weights, named: Parameters, recipe: Recipe, betas: tuple[float, float]) -> list[Optimizer]:
    """Return AdamW over the named parameters, in a list that is empty where there are none.

    Weight decay spares vectors (norms, biases), as is usual. That of matrices of which a mask selects a part, kept as
    `masked_decay`, is applied by the weights.
    """
    matrices = [p for p in named.values() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if not weights.covers(p)], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in matrices if weights.covers(p)],
            "weight_decay": 0.0,
            "masked_decay": recipe.weight_decay,
        },
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        return []
    if any(p.dtype != torch.float32 for p in named.values()):
        return [HalfAdamW(groups, recipe.lr, betas)]
    return [torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, fused=True)]


def muon(named: Parameters, recipe: Recipe, lr: float, momentum: float) -> list[Optimizer]:
    """Return Muon over the named matrices, in a list that is empty where there are none."""
    if not named:
        return []
    return [torch.optim.Muon(named.values(), lr=lr, weight_decay=recipe.weight_decay, momentum=momentum)]
