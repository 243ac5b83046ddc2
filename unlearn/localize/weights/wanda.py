"""Localization by weight times activation (Wanda), row by row of the linear layers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from unlearn.localize.base import Fraction, Localization
from unlearn.localize.weights.scored import refuse_repeats
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn
    from transformers import PreTrainedModel
    from transformers.pytorch_utils import Conv1D

    from unlearn.data.prompt import Encoded
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Wanda:
    """Select by score of W[o, i] = |W[o, i]| ||x_i||, with ||x_i|| the norm of input i over the tokens of forget rows.

    Sun et al. 2024, Wanda (arXiv 2306.11695), as a baseline of WAGLE. Of the C inputs of each output o the C - floor(C
    (1 - select)) highest are selected, ties by position. Only the linear layers of decoder blocks are scored:
    embeddings, norms, biases and the head are NOT selected, where the released WAGLE code trained them all, so that its
    "Wanda 0.8" changed more than 0.8 of the model. As every row of weights is rounded up, a small `select` selects more
    than it says: numbers has `asked` and `achieved`. One of less than one input is refused. As rows go one at a time,
    no padding is counted.

    Raises ValueError where a fraction is asked for twice.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"forget"})

    select: Fraction = 0.8
    """Share of the inputs of each output; embeddings, norms, biases and head are never selected."""
    also: tuple[Fraction, ...] = ()
    """Further shares, whose masks are saved too."""
    samples: Annotated[int, Gt(0)] = 128
    """At most so many forget examples to calibrate on."""
    seed: Annotated[int, Ge(0)] | None = None
    """Of the examples and wordings drawn; None: the run's."""

    def __post_init__(self) -> None:
        refuse_repeats(self.select, self.also)

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a task without forget rows to calibrate on."""
        task.require_examples("forget")

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, in fractions of the weights of linear layers."""
        from unlearn.models.mask import Mask

        model = subject.module
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        layers = block_linears(model)
        self._refuse_less_than_one_input(layers)
        norms = input_norms(model, layers, self.rows(subject, task, seed))
        masks = []
        for fraction in (self.select, *self.also):
            chosen = {f"{name}.weight": highest_per_row(layer, norms[name], fraction) for name, layer in layers.items()}
            masks.append(Mask(shapes, {name: chosen.get(name, False) for name in shapes}))
        first, *rest = masks
        scored = sum(layer.weight.numel() for layer in layers.values())
        numbers = {"scored": scored, "selected": first.selected, "asked": self.select}
        numbers["achieved"] = first.selected / scored
        words = {"achieved": "Share of them that was selected: as every row of weights is rounded up, never less."}
        further = {str(f): mask for f, mask in zip(self.also, rest, strict=True)}
        return Localization(first, numbers, masks=further, words=words)

    def rows(self, subject: Subject, task: Task, seed: int) -> list[Encoded]:
        """Return the rows to calibrate on."""
        draw = random.Random(f"forget-{seed if self.seed is None else self.seed}")
        forget = task.examples("forget")
        examples = draw.sample(forget, min(self.samples, len(forget)))
        pairs = [(draw.choice(e.questions), draw.choice(e.answers)) for e in examples]
        return subject.prompt.encode_all(subject.processor, pairs)

    def _refuse_less_than_one_input(self, layers: Mapping[str, nn.Linear | Conv1D]) -> None:
        name, inputs = min(((name, _by_output(layer).shape[1]) for name, layer in layers.items()), key=lambda it: it[1])
        if (least := min([self.select, *self.also])) < 1 / inputs:
            raise UserError(
                f"localize=wanda selects inputs of each output, and a share of {least} is less than one of the "
                f"{inputs} inputs of '{name}'; the least is 1 / {inputs}"
            )


def block_linears(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """Return the linear layers inside decoder blocks by name, GPT-2's Conv1D among them.

    UserError where there is none.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    from unlearn.models.parameters import layer_of

    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and layer_of(f"{name}.weight") is not None
    }
    if not found:
        raise UserError("localize=wanda scores linear layers in decoder blocks, and this model has none that is known")
    return found


def input_norms(
    model: PreTrainedModel, layers: dict[str, nn.Linear | Conv1D], rows: list[Encoded]
) -> dict[str, Tensor]:
    """Return for each layer the norm of each of its inputs over all tokens of the rows: float32 [inputs]."""
    import torch

    from unlearn.models.interventions.base import gated
    from unlearn.runtime.progress import progress

    squares = {
        name: layer.weight.new_zeros(_by_output(layer).shape[1], dtype=torch.float32) for name, layer in layers.items()
    }

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            squares[name] += inputs[0].flatten(0, -2).float().square().sum(0)

        return add

    handles = [layer.register_forward_pre_hook(observe(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad(), progress("localize: inputs of linear layers", total=len(rows)) as advance:
            for row in rows:
                ids = torch.tensor([row.ids], device=model.device)
                with gated(model, ids, torch.ones_like(ids), ids.new_tensor([row.seen])):
                    model.base_model(input_ids=ids, use_cache=False)
                advance()
    finally:
        for handle in handles:
            handle.remove()
    return {name: square.sqrt() for name, square in squares.items()}


def highest_per_row(layer: nn.Linear | Conv1D, norm: Tensor, fraction: float) -> bool | Tensor:
    """Return the layer's part of the mask: True, False or packed.

    norm: of the layer's inputs, [inputs].
    """
    import torch

    from unlearn.models.mask import pack

    weight = _by_output(layer).float()
    inputs = weight.shape[1]
    count = inputs - int(inputs * (1 - fraction))
    if count == inputs:
        return True
    order = (weight.abs() * norm).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(weight, dtype=torch.bool).scatter_(1, order[:, :count], True)
    return pack(chosen if isinstance(layer, torch.nn.Linear) else chosen.T)


def _by_output(layer: nn.Linear | Conv1D) -> Tensor:
    """Return the weights as [outputs, inputs], as a linear layer keeps them; a Conv1D has them the other way."""
    from torch import nn

    weight = layer.weight.detach()
    return weight if isinstance(layer, nn.Linear) else weight.T
