"""What a training minimises: named terms that belong to a side, over micro-batches that add up to an optimizer step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Side = Literal["forget", "retain"]
SIDES: frozenset[Side] = frozenset({"forget", "retain"})
FORGET: frozenset[Side] = frozenset({"forget"})
RETAIN: frozenset[Side] = frozenset({"retain"})
Losses = dict[str, float]
"""Numbers of a whole step: "loss", each term by name and, once the step is taken, "grad_norm" and "lr".

What is no loss has a name with a slash: "update/NAME" is an update's own number, "method/NAME" a method's.
"""
B = TypeVar("B", bound="Batch")


class Shard(NamedTuple):
    """Which share of every step is this process's."""

    rank: int = 0
    """The number of this process."""
    world: int = 1
    """How many there are."""


@dataclass(frozen=True)
class Term:
    """One part of a loss."""

    weight: float
    """How much it counts."""
    value: Tensor
    """The micro-batch's part of it, a scalar in the graph: summed over the step's micro-batches it is the step's."""
    side: Side
    """Whether it makes the model forget or keeps the rest in place."""


@dataclass(frozen=True)
class Loss:
    """The loss of one micro-batch."""

    terms: Mapping[str, Term]
    """By name, as they are logged (unweighted)."""

    @property
    def total(self) -> Tensor:
        """What is minimised: the weighted sum of the terms."""
        import torch

        return torch.stack([term.weight * term.value for term in self.terms.values()]).sum()


class Batch(Protocol):
    """A micro-batch: some of the rows of an optimizer step."""

    @property
    def share(self) -> float:
        """Return how much of the step it is; over all micro-batches and processes these sum to 1."""
        ...

    def to(self: B, device: torch.device) -> B:
        """Return the same rows on a device."""
        ...

    def empty(self: B) -> B:
        """Return the batch without its rows, for a process that has fewer of them than the others."""
        ...


class Objective(Protocol):
    """What the loop needs to know of what it trains on. A policy is the module that a batch is put to."""

    state: dict[str, Tensor] | None
    """What changes while training, beside the weights: checkpoints hold it. None before the first step."""

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        ...

    def batches(self, step: int, shard: Shard, tokens: int) -> Sequence[Any]:
        """Return a process's micro-batches of a step, of at most `tokens` tokens where rows allow it.

        Equally many for all processes: what a rank lacks are empty ones.
        """
        ...

    def before_step(self, policy: nn.Module, batches: Sequence[Any]) -> None:
        """Prepare the step, before any gradient of it; alike on all ranks."""
        ...

    def loss(self, policy: nn.Module, batch: Any, only: Collection[Side]) -> Loss:
        """Return the terms of these sides, of one micro-batch."""
        ...

    def numbers(self) -> Losses:
        """Return the numbers of its own with which the step was taken, as they are logged beside the losses."""
        ...

    def after_step(self, losses: Losses) -> None:
        """Take note of the losses of a step that was taken."""
        ...

    def may_save(self, step: int) -> bool:
        """Return whether a checkpoint after so many steps would hold all that is needed to go on."""
        ...
