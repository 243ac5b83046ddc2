"""The weights that a training may change. Under a mask all others stay what they are, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.mask import Mask, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.optim import Optimizer


class Weights:
    """The trainable weights of a model, and the mask on them.

    A tensor that the mask does not select at all is frozen: no gradient, no optimizer state. Of a tensor selected in
    part, the gradient of the other weights is set to 0 before it is used, so that an optimizer that treats each weight
    on its own (AdamW, not Muon) keeps their moments at 0 and never moves them; weight decay is applied here, to the
    selected weights alone. UserError where the mask is another model's.
    """

    def __init__(self, model: nn.Module, mask: Mask | None = None) -> None:
        self.digest = mask.digest if mask else ""
        self._packed: dict[nn.Parameter, Tensor] = {}
        if mask is not None:
            mask.check_fits(model)
            for name, parameter in model.named_parameters():
                selected = mask.tensors[name]
                if isinstance(selected, Tensor):
                    self._packed[parameter] = selected.to(parameter.device)
                elif not selected:
                    parameter.requires_grad_(False)
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def covers(self, parameter: nn.Parameter) -> bool:
        """Return whether only a part of this tensor's weights is selected."""
        return parameter in self._packed

    def gradients(self) -> dict[str, Tensor]:
        """Return a copy of the gradients that are there, by parameter name."""
        return {name: p.grad.clone() for name, p in self.trainable.items() if p.grad is not None}

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Add to the gradients that are there."""
        for name, gradient in gradients.items():
            parameter = self.trainable[name]
            parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)

    def drop_gradients(self) -> None:
        """Set all gradients to None."""
        for parameter in self.trainable.values():
            parameter.grad = None

    def mask_gradients(self) -> None:
        """Set the gradient of unselected weights to 0."""
        for parameter, packed in self._packed.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~unpack(packed, tuple(parameter.shape)), 0.0)

    def held(self) -> dict[str, Tensor]:
        """Return a copy of those weights that are in half precision, on the CPU."""
        halves = {name: p for name, p in self.trainable.items() if p.dtype in (torch.bfloat16, torch.float16)}
        return {name: p.detach().to("cpu", copy=True) for name, p in halves.items()}

    def moved(self, before: Mapping[str, Tensor]) -> tuple[int, int]:
        """Return how many of the selected weights are others than before, and how many there are."""
        moved = total = 0
        for name, old in before.items():
            parameter = self.trainable[name]
            differs = parameter.detach().cpu() != old
            packed = self._packed.get(parameter)
            moved += int(differs.sum())
            total += differs.numel() if packed is None else int(unpack(packed, tuple(parameter.shape)).sum())
        return moved, total

    @torch.no_grad()
    def decay(self, optimizers: Sequence[Optimizer]) -> None:
        """Decay the selected weights of tensors selected in part, decoupled: w <- w (1 - lr * rate)."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                if rate := group["lr"] * group.get("masked_decay", 0.0):
                    for parameter in group["params"]:
                        parameter.mul_(1 - rate * unpack(self._packed[parameter], tuple(parameter.shape)))


def check_unselected(mask: Mask, before: nn.Module, after: nn.Module) -> float:
    """Return the share of selected weights that differ. RuntimeError where any other does, by a single bit."""
    changed = 0
    now = dict(after.named_parameters())
    for name, old in before.named_parameters():
        differs = _as_integers(old) != _as_integers(now[name].to(old.device, copy=False))
        if (differs & ~mask.bits(name, old.device)).any():
            raise RuntimeError(f"training changed weights of '{name}' that the mask does not select")
        changed += int(differs.sum())
    return changed / max(mask.selected, 1)


def _as_integers(tensor: Tensor) -> Tensor:
    """Return the same bits as integers, so that 0 and -0 differ and nan equals itself."""
    return tensor.detach().contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
