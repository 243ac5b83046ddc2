"""What a localization left in a run folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unlearn.report.files import Number
from unlearn.runtime.explained import Explained
from unlearn.runtime.read import read_json

LOCALIZE = "localize"  # the folder of the mask and of what explains it


@dataclass(frozen=True)
class Share:
    """Selected and all weights of one module type in one layer (None: outside the layers)."""

    layer: int | None
    type: str
    selected: int
    total: int


@dataclass(frozen=True)
class _Located:
    """`localize.json`."""

    localizer: str
    selected: int
    total: int
    fraction: float
    shares: tuple[Share, ...]
    numbers: dict[str, Number]
    words: dict[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Localization(_Located):
    """What a localizer selected (weights), with the numbers and tables that explain it.

    shares: by layer and module type, in the model's order. numbers: by name, nan where
    undefined; words: what they say. tables: the names of its tables.
    """

    folder: Path

    @property
    def mask(self) -> Path:
        """The file of the mask."""
        return self.folder / "mask.safetensors"

    def explained(self) -> dict[str, Explained]:
        """Return the tables that the localizer left, by name."""
        return {name: Explained.load(self.folder / f"{name}.parquet") for name in self.tables}


def read_localization(folder: Path) -> Localization | None:
    """Return what the localization left in its folder, None where there is none; UserError where it is damaged."""
    if not folder.is_dir():
        return None
    located = read_json(folder / "localize.json", _Located)
    return Localization(**vars(located), folder=folder)
