"""The state of a training in one safetensors file, replaced atomically: weights, optimizer state, log so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from unlearn.runtime.errors import UserError
from unlearn.runtime.store import write_file
from unlearn.training.update import load_optimizer_tensors, optimizer_tensors

FILE = "checkpoint.safetensors"


@dataclass
class Log:
    """What a training has recorded: a row of losses per step, and a row of metrics per point of the trade-off curve."""

    history: list[dict[str, Any]]
    curve: list[dict[str, Any]]


def save(folder: Path, step: int, model: nn.Module, optimizers: Sequence[Optimizer], log: Log, mask: str = "") -> None:
    """Save the state after `step` optimizer steps. Frozen weights are not saved: they are what they were.

    mask: the digest of the mask that the model is trained under, "" without one.
    """
    tensors = {
        f"model.{name}": p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad
    }
    tensors |= {f"optimizer.{name}": t.cpu().contiguous() for name, t in optimizer_tensors(optimizers).items()}
    record = {"state": json.dumps({"step": step, "history": log.history, "curve": log.curve, "mask": mask})}
    write_file(folder / FILE, lambda path: save_file(tensors, path, metadata=record))


def load(folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], mask: str = "") -> tuple[int, Log] | None:
    """Put a saved state back and return its step and log; None where there is none or it is unreadable.

    UserError where it belongs to a training under another mask.
    """
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if state["mask"] != mask:
            raise UserError(f"the training in {folder} was begun under another mask: choose another output=")
        if {f"model.{name}" for name in weights} != {name for name in tensors if name.startswith("model.")}:
            return None
    except UserError:
        raise
    except Exception:  # absent, cut short or overwritten: the caller starts afresh and says so
        return None
    for name, parameter in weights.items():
        parameter.data.copy_(tensors[f"model.{name}"])
    mine = {name.removeprefix("optimizer."): t for name, t in tensors.items() if name.startswith("optimizer.")}
    load_optimizer_tensors(optimizers, mine)
    return state["step"], Log(state["history"], state["curve"])


def discard(folder: Path) -> None:
    """Remove the state: the training is finished."""
    (folder / FILE).unlink(missing_ok=True)
