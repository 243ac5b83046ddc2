"""Localization by module: attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization
from unlearn.localize.places.layers import LayerNumbers, known_layers, whole_tensors
from unlearn.models.parameters import ATTENTION, layer_of, module_type

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Select all attention projections (query, key, value, output), with their biases; no other weight.

    The counterpart of localize=ffn: do facts go with the MLPs, or would any part of the layers do?
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    layers: LayerNumbers | None = None
    """Only these layers, counted from 0 ([4, 5, 6]); None: all."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, whole tensors; UserError where the model has no such layer or no weights of the kind."""
        layers = known_layers(subject.module, self.layers)
        mask = whole_tensors(
            subject.module, lambda name: module_type(name) in ATTENTION and layer_of(name) in layers, "attention"
        )
        return Localization(mask, {"selected": mask.selected})
