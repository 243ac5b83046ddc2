"""Localization by place: whole decoder layers, or whole tensors of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from unlearn.localize.base import Fraction, Localization
from unlearn.models.parameters import layer_of, module_type
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject

LayerNumbers = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Select every weight of the first or the last n decoder layers, or of given layers.

    Layers [5, 6, 7] with parameters "down_proj" are much like what RMU trains (Li et al. 2024, arXiv 2403.03218).

    Raises ValueError where `parameters` is no regular expression, or n and layers are both set.
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    end: Literal["first", "last"] = "last"
    """At which end the n layers are: "first" or "last"."""
    n: Annotated[int, Gt(0)] | None = None
    """How many layers; None: the number whose share of all weights is the nearest to `select`."""
    select: Fraction = 0.5
    """Share of all weights, where n is None."""
    layers: LayerNumbers | None = None
    """These layers, counted from 0 ([5, 6, 7]), in the place of `end` and n."""
    parameters: str | None = None
    """A regular expression found in the names of the tensors to take (down_proj); None: all of a layer's."""
    outside: tuple[Literal["embed", "norm", "head"], ...] = ()
    """Weights outside the layers to take too: embed, norm (the final one), head. "embed" is the embeddings, "head" the
    vocabulary projection, which in a model with tied weights is the embedding."""

    def __post_init__(self) -> None:
        if self.n is not None and self.layers is not None:
            raise ValueError("n and layers are both set: give how many layers, or which")
        try:
            re.compile(self.parameters or "")
        except re.error as error:
            raise ValueError(f"parameters is '{self.parameters}', which is no regular expression ({error})") from None

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, whole tensors; UserError where the model has no such layers or tensors."""
        model = subject.module
        if self.layers is not None:
            mask = self._mask(model, known_layers(model, self.layers))
        else:
            known = layers_of(model)
            if self.n is not None and self.n > len(known):
                raise UserError(f"'n' is {self.n}: the model has {len(known)} layers")
            numbers = [self.n] if self.n else range(1, len(known) + 1)
            ends = [known[:n] if self.end == "first" else known[-n:] for n in numbers]
            mask = min((self._mask(model, end) for end in ends), key=lambda mask: abs(mask.fraction - self.select))
        taken = {layer_of(name) for name, count in mask.counts.items() if count} - {None}
        return Localization(mask, {"layers": len(taken), "selected": mask.selected})

    def _mask(self, model: PreTrainedModel, layers: Sequence[int]) -> Mask:
        projection = {id(p) for p in model.get_output_embeddings().parameters()}
        head = {name for name, p in model.named_parameters() if id(p) in projection}

        def chosen(name: str) -> bool:
            layer = layer_of(name)
            if layer is None:
                return module_type(name) in self.outside or ("head" in self.outside and name in head)
            return layer in layers and re.search(self.parameters or "", name) is not None

        named = f" named like '{self.parameters}'" if self.parameters else ""
        return whole_tensors(model, chosen, f"layers {list(layers)}{named}")


def layers_of(model: PreTrainedModel) -> list[int]:
    """Return the numbers of the model's decoder layers, ascending; UserError where none is known by its name."""
    found = {layer for name, _ in model.named_parameters() if (layer := layer_of(name)) is not None}
    if not found:
        raise UserError("no decoder layers are known in this model by the names of its weights")
    return sorted(found)


def known_layers(model: PreTrainedModel, wanted: Sequence[int] | None) -> Sequence[int]:
    """Return `wanted`, or all layers where that is None; UserError where the model has no such layer."""
    known = layers_of(model)
    if wanted is None:
        return known
    if unknown := sorted(set(wanted) - set(known)):
        raise UserError(f"'layers' has {unknown[0]}: the model has layers {known[0]} to {known[-1]}")
    return wanted


def whole_tensors(model: PreTrainedModel, chosen: Callable[[str], bool], what: str) -> Mask:
    """Return the mask of the tensors whose name is chosen; UserError, naming `what`, where that is none."""
    from unlearn.models.mask import Mask

    mask = Mask.where(model, chosen)
    if not mask.selected:
        example = list(mask.shapes)[len(mask.shapes) // 2]
        raise UserError(f"this model has no weights of {what}; their names are like '{example}'")
    return mask
