"""All MLPs of a model's layers, as its structure has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization
from unlearn.localize.places.layers import LayerNumbers
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True, kw_only=True)
class AllMLPs:
    """Select gate, up and down of every layer, with their biases: what fact lookup and causal tracing pick from.

    The MLPs are found by the model's structure, as there; FFN finds them by the names of the weights. "all_mlps" of
    Mechanistic Unlearning (Guo et al. 2024).
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    layers: LayerNumbers | None = None
    """Only these layers, counted from 0 ([4, 5, 6]); None: all."""

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, whole tensors.

        UserError where the model has no such layer, or a structure that is not known.
        """
        from unlearn.localize.places.parts import mlps, union

        parts = mlps(subject.module)
        layers = range(len(parts)) if self.layers is None else self.layers
        if max(layers) >= len(parts):
            raise UserError(f"'layers' has {max(layers)}: the model has layers 0 to {len(parts) - 1}")
        mask = union(subject.module, [parts[layer] for layer in layers])
        return Localization(mask, {"selected": mask.selected})
