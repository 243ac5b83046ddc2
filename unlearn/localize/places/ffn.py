"""Localization by module: the MLPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization
from unlearn.localize.places.layers import LayerNumbers, known_layers, whole_tensors
from unlearn.models.parameters import MLP, layer_of, module_type

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class FFN:
    """Select all MLPs (feed-forward blocks), experts among them, with their biases; no other weight.

    A baseline of WAGLE (Jia et al. 2024, arXiv 2410.17509). Its released code looks for OPT's names and so finds no
    weight of a Llama; here the families' own names are known.
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
        mask = whole_tensors(subject.module, lambda name: module_type(name) in MLP and layer_of(name) in layers, "MLPs")
        return Localization(mask, {"selected": mask.selected})
