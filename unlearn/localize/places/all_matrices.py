"""Every attention and MLP matrix of the layers, without choice of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.localize.base import Localization

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Nonlocalized:
    """Select q, k, v, o, gate, up and down of every layer, with their biases; no embeddings, norms or head.

    "nonlocalized" of Mechanistic Unlearning (Guo et al. 2024).
    """

    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask, by the model's layout alone."""
        from unlearn.localize.places.parts import matrices, union

        parts = matrices(subject.module)
        mask = union(subject.module, parts)
        return Localization(mask, {"parts": len(parts), "parameters": mask.selected})
