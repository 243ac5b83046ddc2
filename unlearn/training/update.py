"""The optimizers a recipe asks for, and their state as plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlearn.recipe import Recipe
from unlearn.training.masking import Masking


def make_optimizers(model: nn.Module, recipe: Recipe, masking: Masking) -> list[Optimizer]:
    """AdamW over all trainable parameters, or Muon for the matrices of decoder layers and AdamW for the rest.

    Weight decay spares vectors (norms, biases), as is usual. Each group remembers its peak rate as `peak_lr`.
    Matrices of which a mask selects a part always go to AdamW, since Muon's update mixes the weights of a matrix; their
    weight decay, kept as `masked_decay`, is the masking's.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = recipe.optimizer == "muon"
    by_muon = {name for name, p in named if muon and p.ndim == 2 and ".layers." in name and not masking.covers(p)}
    rest = [p for name, p in named if name not in by_muon]
    matrices = [p for p in rest if p.ndim >= 2]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if not masking.covers(p)], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in matrices if masking.covers(p)],
            "weight_decay": 0.0,
            "masked_decay": recipe.weight_decay,
        },
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[Optimizer] = []
    if by_muon:
        whole = [p for name, p in named if name in by_muon]
        optimizers.append(torch.optim.Muon(whole, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95))
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_lr(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """The state of all optimizers as named tensors ("0.17.exp_avg": optimizer, parameter number, entry)."""
    return {
        f"{o}.{p}.{entry}": torch.as_tensor(value)
        for o, optimizer in enumerate(optimizers)
        for p, state in optimizer.state_dict()["state"].items()
        for entry, value in state.items()
    }


def load_optimizer_tensors(optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, value in tensors.items():
        o, p, entry = name.split(".", 2)
        states[int(o)].setdefault(int(p), {})[entry] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
