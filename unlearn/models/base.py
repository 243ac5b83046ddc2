"""What is known of a model before any is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from unlearn.data.task import Modality
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import is_local, local

Threads = Annotated[int, Gt(0), Le(1024)]  # thousands crash the process


@dataclass(frozen=True)
class RunSetting:
    """What a run is like, beside its task: what a component may refuse before anything is loaded."""

    modality: Modality
    source: str | None
    """Hub id or folder of the pretrained weights that the run starts from; None where they are random."""
    control: bool
    """Whether there is a control model."""
    masked: bool
    """Whether a localizer says which weights may change."""
    lora: bool
    """Whether adapters are trained instead of the weights themselves."""
    epochs: bool = False
    """Whether the length of a training is counted in passes over the forget rows."""


def check_local(key: str, path: str | None) -> None:
    """UserError where `path` is a local one, or a .gguf file, and holds no model."""
    if path is None or not (is_local(path) or path.endswith(".gguf")):
        return
    place = local(path)
    if not place.exists():
        raise UserError(f"'{key}' is {path!r}: there is no such file or folder")
    if place.is_file() and place.suffix != ".gguf":
        raise UserError(f"'{key}' is {path!r}: neither a folder nor a .gguf file")
    if place.is_dir() and (place / "model.json").is_file():  # in layers, which are checked when it is loaded
        return
    if place.is_dir() and not (place / "config.json").is_file():
        raise UserError(f"'{key}' is {path!r}: not a model folder (it holds no config.json)")
    if place.is_dir() and not any(place.glob("*.safetensors")):
        raise UserError(f"'{key}' is {path!r}: it holds no *.safetensors (pickled weights, *.bin, are never loaded)")
