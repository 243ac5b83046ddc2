"""What an intervention is: buffers and hooks that change a model's activations on the prompts that a detector names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHILD = "interventions"  # the name of the model's child that holds them


class NoGate(RuntimeError):
    """A model with interventions was run and nobody had said on which prompts: see `gated`."""


class Fitted(nn.Module):
    """A dataclass whose fields are its settings and whose fitted tensors are buffers, in no state_dict.

    Subclasses are `@dataclass(eq=False)`; they are rebuilt from their fields (see `components.build`) and `hold`.
    """

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Make it a module before the dataclass sets its fields."""
        made = super().__new__(cls)
        nn.Module.__init__(made)
        return made

    def hold(self, **tensors: Tensor) -> Self:
        """Keep fitted tensors, which move with the model; "detector.NAME" goes to the field `detector`."""
        for name, tensor in tensors.items():
            owner, _, own = name.rpartition(".")
            self.get_submodule(owner).register_buffer(own, tensor, persistent=False)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return what was fitted, by name."""
        return dict(self.named_buffers())


@dataclass(eq=False)
class Detector(Fitted, ABC):
    """Tells prompts that an intervention is for."""

    @abstractmethod
    def score(self, module: nn.Module, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> Tensor:
        """Return a margin for each prompt: [B], the higher, the more it is one. Thresholds are the gate's.

        module: the model, on which no intervention acts meanwhile. ids: [B, T] the prompts alone, padded on the right.
        mask: [B, T] bool, where they are. prompt_lengths: [B].
        """


@dataclass(eq=False)
class Intervention(Fitted, ABC):
    """Act on rows of a batch by their gate.

    Subclasses hook modules by their own bound methods, so that a copy of the model has hooks of the copy's.
    """

    detector: Detector | None = field(default_factory=lambda: None)  # a plain default would hide the module
    """Which prompts it is for; None: all."""

    refusal: tuple[int, ...] | None = None
    """Tokens that are the answer where the gate is above a half; None: the model goes on by itself. They take the place
    of what is generated; likelihoods of given answers stay those of the model with the intervention."""

    @abstractmethod
    def hook(self, module: nn.Module) -> None:
        """Register bound methods of this object as forward hooks inside `module`."""

    def gate(self, score: Tensor) -> Tensor:
        """Return how much it acts, [B] in [0, 1], by the detector's margin [B]."""
        return (score > 0).to(score.dtype)

    def attach(self, module: nn.Module) -> None:
        """Become part of a model, after the interventions that it has."""
        held = interventions(module)
        if held is None:
            held = Interventions()
            module.add_module(CHILD, held)
        held.append(self)
        self.hook(module)

    def detach(self, module: nn.Module) -> None:
        """Leave the model, with every hook."""
        held = interventions(module)
        assert held is not None
        kept = [one for one in held if one is not self]
        for part in module.modules():
            for hooks in (part._forward_hooks, part._forward_pre_hooks):
                for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                    del hooks[key]
        delattr(module, CHILD)
        if kept:
            module.add_module(CHILD, Interventions(kept))

    def opened(self, rows: int) -> Tensor:
        """Return the gates of the rows that run, [rows], repeated where a batch was widened; NoGate without any."""
        gates: Tensor | None = self.__dict__.get("_gates")
        if gates is None:
            raise NoGate("a model with interventions runs only where its prompts are known: see models.interventions")
        return gates if len(gates) == rows else gates.repeat(rows // len(gates))


class Interventions(nn.ModuleList):
    """A model's interventions, in the order in which they were attached."""

    silent = False

    def __iter__(self) -> Iterator[Intervention]:
        """Go over the interventions."""
        return iter(self._modules.values())  # type: ignore[arg-type]

    @contextmanager
    def opening(self, gates: Sequence[Tensor | None]) -> Iterator[None]:
        """While active, each intervention acts by its gates [B]."""
        before = [one.__dict__.get("_gates") for one in self]
        try:
            for one, gate in zip(self, gates, strict=True):
                one.__dict__["_gates"] = gate
            yield
        finally:
            for one, earlier in zip(self, before, strict=True):
                one.__dict__["_gates"] = earlier

    def gates(self, module: nn.Module, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> list[Tensor]:
        """Return each intervention's gates [B] for the prompts in ids [B, T]."""
        nothing = torch.zeros(len(ids), device=ids.device)
        if self.silent:
            return [nothing] * len(self)
        asked = prompts_of(ids, mask, prompt_lengths)
        found = []
        self.silent = True
        try:
            with torch.no_grad(), self.opening([nothing] * len(self)):
                for one in self:
                    detector = one.detector
                    found.append(one.gate(detector.score(module, *asked)) if detector else nothing + 1)
        finally:
            self.silent = False
        return found


def refused(module: nn.Module, rows: int) -> list[tuple[int, ...] | None]:
    """Return for each of the rows that run, inside `gated`, the tokens that are its answer; None where there are none.

    Of several interventions that refuse a row, the first one attached answers.
    """
    answers: list[tuple[int, ...] | None] = [None] * rows
    for one in interventions(module) or ():
        if one.refusal is not None:
            on = (one.opened(rows) > 0.5).tolist()
            answers = [one.refusal if own is None and gate else own for own, gate in zip(answers, on, strict=True)]
    return answers


def interventions(module: nn.Module) -> Interventions | None:
    """Return a model's interventions, None where it has none."""
    return getattr(module, CHILD, None)


def prompts_of(ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids [B, T'], mask and lengths [B] of the prompts alone, padded on the right.

    mask: [B, T], where each row's tokens are, on whichever side the padding is. prompt_lengths: how many of its first
    tokens are the prompt; a row of none is one as a whole, as plain text is.
    """
    mask = mask.bool()
    lengths = torch.where(prompt_lengths > 0, prompt_lengths, mask.sum(1))
    width = max(1, int(lengths.max())) if len(lengths) else 1
    place = mask.long().argmax(1)[:, None] + torch.arange(width, device=ids.device)
    inside = torch.arange(width, device=ids.device) < lengths[:, None]
    found = ids.gather(1, place.clamp_max(ids.shape[1] - 1))
    return found.where(inside, torch.zeros_like(found)), inside, lengths


@contextmanager
def gated(module: nn.Module, ids: Tensor, mask: Tensor, prompt_lengths: Tensor) -> Iterator[None]:
    """While active, the model's interventions act on the rows of a batch as their detectors say of its prompts.

    ids: [B, T]. mask: [B, T], where each row's tokens are, without gaps. prompt_lengths: [B], how many of them are the
    prompt (0: all). Costs nothing where the model has no interventions; where it has, it runs in no other way.
    """
    held = interventions(module)
    if held is None:
        yield
        return
    with held.opening(held.gates(module, ids, mask, prompt_lengths)):
        yield


@contextmanager
def gated_at(module: nn.Module, ids: Tensor, index: Tensor) -> Iterator[None]:
    """Enter `gated` for rows padded on the right that are read at the flat positions `index` [n] of ids [B, T].

    The prompt of a row ends with the first position at which it is read.
    """
    if interventions(module) is None:
        yield
        return
    width = ids.shape[1]
    first = torch.full((len(ids),), width, device=ids.device)
    index = index[index < ids.numel()]  # a batch that is widened inside the model is read at more rows
    first = first.scatter_reduce(0, index // width, index % width + 1, "amin")
    with gated(module, ids, torch.ones_like(ids), first):
        yield


def strip(module: nn.Module) -> nn.Module:
    """Take all interventions off a model; the model."""
    for one in list(interventions(module) or ()):
        one.detach(module)
    return module
