"""Model folders in layers: a base, adapters and interventions on it, described by one file, model.json.

FOLDER/model.json            {"base": place of the base, "files": its weights' digests, "variant", "layers": [...]}
FOLDER/base/                 the base, where it lies nowhere else ("base": "base")
FOLDER/layer-0/              an adapter as peft saves it, or an intervention's tensors (layer.safetensors)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MinLen

from unlearn.models.lora import base_of
from unlearn.runtime.components import TARGET, build
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import is_local, local
from unlearn.runtime.read import read_json
from unlearn.runtime.store import disk_errors, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from unlearn.models.interventions.base import Intervention

MODEL = "model.json"
BASE = "base"
TENSORS = "layer.safetensors"


@dataclass(frozen=True)
class Layer:
    """One layer of a model folder."""

    kind: Literal["adapter", "intervention"]
    """What lies in its folder."""

    folder: Annotated[str, MinLen(1)]
    """Its folder's name."""

    sha256: str
    """Digest of its tensors' file."""

    component: dict[str, Any] | None = None
    """An intervention's class (`_target_`) and fields."""

    @property
    def file(self) -> str:
        """The name of its tensors' file."""
        return TENSORS if self.kind == "intervention" else "adapter_model.safetensors"


@dataclass(frozen=True)
class Layered:
    """What model.json says."""

    base: Annotated[str, MinLen(1)]
    """Hub id or folder of the weights below, or "base", in this folder."""

    layers: tuple[Layer, ...]
    """In the order in which they lie on the base."""

    variant: str = ""
    """See Subject."""

    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """Digests of the base's weight files, where it is a folder."""


def read(folder: Path) -> Layered | None:
    """Return what a model folder says of its layers, None where it has no model.json.

    UserError where that is damaged, where a layer is missing or not what was saved, or the base is not there.
    """
    if not (folder / MODEL).is_file():
        return None
    about: Layered = read_json(folder / MODEL, Layered)
    for layer in about.layers:
        file = folder / layer.folder / layer.file
        if not file.is_file():
            raise UserError(f"{folder} is not whole: its layer {file} is missing")
        if _digest(file) != layer.sha256:
            raise UserError(f"{folder} is damaged: its layer {file} is not what was saved")
    base = base_place(folder, about)
    if is_local(base) and not local(base).exists():
        raise UserError(f"the layers in {folder} belong to the model '{base}', which is not there")
    if about.files and about.files != _digests(local(base)):
        raise UserError(f"the layers in {folder} belong to other weights than those that are now in '{base}'")
    return about


def base_place(folder: Path, about: Layered) -> str:
    """Return the hub id or folder of a model's base."""
    return str(folder / BASE) if about.base == BASE else about.base


def below(path: str | Path) -> str | None:
    """Return where the weights below the layers of a model folder, or below peft's adapter, lie; None without any."""
    folder = local(str(path))
    about = read(folder)
    return base_of(folder) if about is None else base_place(folder, about)


def variant_of(path: str | Path) -> str:
    """Return which of several models of one role a layered folder holds (see Subject); "" for any other."""
    about = read(local(str(path)))
    return about.variant if about else ""


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a model, layered or not, or an adapter to one."""
    return (folder / MODEL).is_file() or base_of(folder) is not None or (folder / "config.json").is_file()


def write(
    folder: Path, base: str, held: Sequence[Intervention], adapters: Sequence[Path] = (), variant: str = ""
) -> None:
    """Write model.json and the layers' folders beside it; model.json last, so that a folder without it is no model.

    base: where the weights below lie, BASE for a folder in this one. adapters: peft's folders, copied.
    """
    import shutil

    from safetensors.torch import save_file

    layers: list[Layer] = []
    with disk_errors(folder):
        for source in adapters:
            mine = folder / f"layer-{len(layers)}"
            shutil.copytree(source, mine)
            layers.append(Layer("adapter", mine.name, _digest(mine / "adapter_model.safetensors")))
        for one in held:
            mine = folder / f"layer-{len(layers)}"
            mine.mkdir(parents=True)
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in one.tensors().items()}
            save_file(tensors, mine / TENSORS)
            layers.append(Layer("intervention", mine.name, _digest(mine / TENSORS), _node(one)))
    place = local(str(folder / BASE) if base == BASE else base)
    about = Layered(base, tuple(layers), variant, _digests(place))
    write_json(folder / MODEL, dataclasses.asdict(about))


def attach(module: nn.Module, folder: Path, about: Layered) -> None:
    """Put a folder's interventions on its base. UserError where one cannot be built."""
    from safetensors.torch import load_file

    from unlearn.models.interventions.base import Intervention

    for layer in about.layers:
        if layer.kind == "intervention":
            one = build(layer.component, f"{folder / MODEL}: {layer.folder}")
            if not isinstance(one, Intervention):
                raise UserError(f"{folder / MODEL}: {layer.folder} is no intervention")
            one.hold(**load_file(folder / layer.folder / TENSORS))
            one.attach(module)


def _node(component: Any) -> Any:
    """Return a component as a config node, from which `build` makes it again."""
    if dataclasses.is_dataclass(component):
        cls = type(component)
        fields = {field.name: _node(getattr(component, field.name)) for field in dataclasses.fields(component)}
        return {TARGET: f"{cls.__module__}.{cls.__qualname__}", **fields}
    if isinstance(component, Mapping):
        return {key: _node(value) for key, value in component.items()}
    return [_node(value) for value in component] if isinstance(component, (list, tuple)) else component


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: _digest(path) for path in sorted(folder.glob("*.safetensors"))} if folder.is_dir() else {}


def _digest(file: Path) -> str:
    state = file.stat()
    return _content(file.absolute(), state.st_size, state.st_mtime_ns)


@cache
def _content(file: Path, size: int, changed: int) -> str:
    """Return the sha256 of a file as it is; of one size and time of change it is read once a process."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
