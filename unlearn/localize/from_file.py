"""Read a mask that was saved before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import MinLen

from unlearn.localize.base import Localization
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import Subject


@dataclass(frozen=True)
class FromFile:
    """Read a mask that was saved before.

    UserError where there is none, or where it was made for a model with other weights.
    """

    modality: ClassVar[str] = "any"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset()

    path: Annotated[str, MinLen(1)]
    """A mask.safetensors, a folder that has one, or the folder of a run that has localize/mask.safetensors."""

    @property
    def file(self) -> Path:
        """Return where the mask is."""
        place = local(self.path)
        if not place.is_dir():
            return place
        inside = place / "mask.safetensors"
        return inside if inside.is_file() else place / "localize" / "mask.safetensors"

    def cache_key(self) -> dict[str, str]:
        """Return the file's hash: a mask is what is in it, wherever it is."""
        with open(self.file, "rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def check(self, task: Task, setting: RunSetting) -> None:
        """Refuse a path without a mask; any task will do."""
        if not self.file.is_file():
            raise UserError(
                f"'localize.path' is {self.path!r}: there is no mask (wanted: a mask.safetensors, or a run folder that "
                "has localize/mask.safetensors)"
            )

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Read the mask, and check that it is this model's."""
        from unlearn.models.mask import Mask

        mask = Mask.load(self.file)
        mask.check_fits(subject.module)
        return Localization(mask)
