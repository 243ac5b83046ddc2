"""The state of a training in one safetensors file, replaced atomically: weights, update, objective, log so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from unlearn.runtime.errors import UserError
from unlearn.runtime.store import write_file

if TYPE_CHECKING:
    from pathlib import Path

FILE = "checkpoint.safetensors"
_MODEL, _UPDATE, _OBJECTIVE = "model.", "update.", "objective."


@dataclass
class Log:
    """What a training has recorded."""

    history: list[dict[str, Any]] = field(default_factory=list)
    """A row of losses per step."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """A row of metrics per point of the trade-off curve."""


@dataclass(frozen=True)
class Checkpoint:
    """A training as it stands between two steps."""

    step: int
    """Optimizer steps done."""
    log: Log
    """Of these steps."""
    model: Mapping[str, Tensor]
    """The trainable weights. Frozen ones are what they were."""
    update: Mapping[str, Tensor]
    """The update's state."""
    objective: Mapping[str, Tensor]
    """The objective's state."""
    mask: str = ""
    """The digest of the mask that the model is trained under, "" without one."""

    def save(self, folder: Path) -> None:
        """Write it as the folder's checkpoint."""
        tensors = {
            f"{part}{name}": tensor.detach().cpu().contiguous()
            for part, named in ((_MODEL, self.model), (_UPDATE, self.update), (_OBJECTIVE, self.objective))
            for name, tensor in named.items()
        }
        state = {"step": self.step, "history": self.log.history, "curve": self.log.curve, "mask": self.mask}
        text = json.dumps(state)
        record = {"state": text, "sha256": _digest(text, tensors)}
        write_file(folder / FILE, lambda path: save_file(tensors, path, metadata=record))


def load(folder: Path, mask: str = "") -> Checkpoint | None:
    """Return the folder's checkpoint; None where there is none, or it is unreadable or damaged.

    UserError where it belongs to a training under another mask than that of the digest `mask`.
    """
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if about["sha256"] != _digest(about["state"], tensors):
            return None
        state = json.loads(about["state"])
        model, update, objective = (
            {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
            for part in (_MODEL, _UPDATE, _OBJECTIVE)
        )
        log = Log(state["history"], state["curve"])
        found = Checkpoint(state["step"], log, model, update, objective, state["mask"])
    except Exception:  # absent, cut short or overwritten: the caller starts afresh and says so
        return None
    if found.mask != mask:
        raise UserError(f"the training in {folder} was begun under another mask: choose another output=")
    return found


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of what a checkpoint holds."""
    digest = sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()


def discard(folder: Path) -> None:
    """Remove the state: the training is finished."""
    (folder / FILE).unlink(missing_ok=True)
