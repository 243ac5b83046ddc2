"""The mask: which weights unlearning may change. Every localizer returns one; gradient methods train under it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, TypedDict

import torch
from annotated_types import Ge
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearn.models.parameters import TYPES, layer_of, module_type
from unlearn.runtime.errors import UserError, nearest
from unlearn.runtime.store import write_file

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "unlearn-mask-1"
_SHAPES = TypeAdapter(dict[str, tuple[Annotated[int, Ge(0)], ...]], config=ConfigDict(strict=True, title="shapes"))
_NAMES = TypeAdapter(set[str], config=ConfigDict(strict=True, title="selected"))
_ABOUT = TypeAdapter(dict[str, str], config=ConfigDict(strict=True, title="about"))


class Share(TypedDict):
    """Selected and all weights of one module type in one decoder layer (None: outside the layers)."""

    layer: int | None
    type: str
    selected: int
    total: int


@dataclass(frozen=True, eq=False)
class Mask:
    """Selected weights by parameter name: True (the whole tensor), False (none of it) or packed bits.

    shapes: of every parameter, in the model's order (a tied weight is there once, under its first name).
    tensors: True, False, or uint8 [ceil(numel / 8)], bit j of byte i being weight 8 i + j in row-major order. Bits are
    never all ones or all zeros. about: how the mask was made, in words.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tensors: Mapping[str, bool | Tensor]
    about: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, selected: Mapping[str, bool | Tensor]) -> Mask:
        """Return the mask of a model's weights.

        selected: True, False or a bool tensor of the parameter's shape, by name; absent names: False. A tied weight
        goes by its first name. UserError where a name is no parameter's, or a value is none of these.
        """
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        for name, value in selected.items():
            _check_value(model, shapes, name, value)
        tensors = {name: _packed(selected.get(name, False)) for name in shapes}
        return cls(shapes, tensors)

    @classmethod
    def where(cls, model: nn.Module, choose: Callable[[str], bool]) -> Mask:
        """Return the mask of the whole tensors whose name is chosen."""
        return cls.of(model, {name: bool(choose(name)) for name, _ in model.named_parameters()})

    def bits(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Bool tensor of the parameter's shape."""
        shape, packed = self.shapes[name], self.tensors[name]
        if isinstance(packed, bool):
            return torch.full(shape, packed, dtype=torch.bool, device=device)
        return unpack(packed.to(device), shape)

    def is_whole(self, name: str) -> bool:
        """Whether the tensor is selected or left as a whole."""
        return isinstance(self.tensors[name], bool)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Selected weights of each tensor."""
        return {
            name: math.prod(self.shapes[name]) * packed if isinstance(packed, bool) else _popcount(packed)
            for name, packed in self.tensors.items()
        }

    @property
    def selected(self) -> int:
        """Selected weights."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """All weights."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def fraction(self) -> float:
        """Share of all weights that is selected."""
        return self.selected / self.total

    def share(self, name: str) -> float:
        """Share of one tensor that is selected."""
        return self.counts[name] / math.prod(self.shapes[name])

    def shares(self) -> list[Share]:
        """Return selected and all weights by layer and module type, outside the layers first, then layer by layer."""
        cells: dict[tuple[int, int], Share] = {}
        for name, shape in self.shapes.items():
            layer, kind = layer_of(name), module_type(name)
            key = (-1 if layer is None else layer, TYPES.index(kind))
            cell = cells.setdefault(key, Share(layer=layer, type=kind, selected=0, total=0))
            cell["selected"] += self.counts[name]
            cell["total"] += math.prod(shape)
        return [cells[key] for key in sorted(cells)]

    def iou(self, other: Mask) -> float:
        """Intersection over union of the selected weights; 1 where neither selects any. UserError as in `&`."""
        both, either = (self & other).selected, (self | other).selected
        return both / either if either else 1.0

    def __and__(self, other: Mask) -> Mask:
        """Weights that both select. UserError where the masks are of different models."""
        return self._with(other, torch.bitwise_and, neutral=True)

    def __or__(self, other: Mask) -> Mask:
        """Weights that either selects. UserError where the masks are of different models."""
        return self._with(other, torch.bitwise_or, neutral=False)

    def __invert__(self) -> Mask:
        """Weights that this mask does not select."""
        tensors: dict[str, bool | Tensor] = {}
        for name, packed in self.tensors.items():
            tensors[name] = not packed if isinstance(packed, bool) else _packed(~self.bits(name))
        return Mask(self.shapes, tensors)

    def save(self, path: Path) -> None:
        """Write the mask as one safetensors file: packed bits, and the rest in its metadata."""
        packed = {name: value.cpu() for name, value in self.tensors.items() if isinstance(value, Tensor)}
        record = {
            "format": FORMAT,
            "shapes": json.dumps(self.shapes),
            "selected": json.dumps([name for name, value in self.tensors.items() if value is True]),
            "about": json.dumps(dict(self.about)),
        }
        write_file(path, lambda temporary: save_file(packed, temporary, metadata=record))

    @classmethod
    def load(cls, path: Path) -> Mask:
        """Read what `save` wrote; UserError where the file is missing, or is not what `save` writes."""
        try:
            with safe_open(path, framework="pt") as file:
                record = file.metadata() or {}
                if record.get("format") != FORMAT:
                    raise UserError(f"{path} is not a mask (one that `unlearn run localize=...` saved)")
                packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return _from_file(record, packed)
        except FileNotFoundError:
            raise UserError(f"there is no mask {path}") from None
        except UserError:
            raise
        except ValidationError as error:
            raise UserError(f"the mask {path} is damaged: {error.title}: {error.errors()[0]['msg']}") from error
        except ValueError as error:
            raise UserError(f"the mask {path} is damaged: {error}") from error
        except Exception as error:  # of the disk, of safetensors
            raise UserError(f"cannot read the mask {path}: {error}") from error

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of which weights of which tensors are selected."""
        hashed = hashlib.sha256()
        for name, packed in self.tensors.items():
            hashed.update(f"{name}{list(self.shapes[name])}{packed if isinstance(packed, bool) else ''}".encode())
            if isinstance(packed, Tensor):
                hashed.update(packed.cpu().numpy().tobytes())
        return hashed.hexdigest()

    def check_fits(self, model: nn.Module) -> None:
        """UserError where the mask was made for a model with other parameters."""
        self._check_shapes({name: tuple(p.shape) for name, p in model.named_parameters()}, "this model")

    def _check_shapes(self, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
        for name in [*self.shapes, *shapes]:
            mine, theirs = (str(list(s[name])) if name in s else "nothing" for s in (self.shapes, shapes))
            if mine != theirs:
                made = " ".join(self.about.get(key, "") for key in ("localizer", "model")).strip()
                raise UserError(
                    f"the mask{f' ({made})' if made else ''} was made for another model: '{name}' is {mine} in the "
                    f"mask and {theirs} in {what}"
                )

    def _with(self, other: Mask, combine: Callable[[Tensor, Tensor], Tensor], neutral: bool) -> Mask:
        """Tensor by tensor; `neutral` is the whole-tensor value that leaves the other side as it is."""
        self._check_shapes(other.shapes, "the other mask")
        tensors: dict[str, bool | Tensor] = {}
        for name, mine in self.tensors.items():
            theirs = other.tensors[name]
            if isinstance(mine, bool):
                tensors[name] = theirs if mine is neutral else mine
            elif isinstance(theirs, bool):
                tensors[name] = mine if theirs is neutral else theirs
            else:
                tensors[name] = _canonical(combine(mine.cpu(), theirs.cpu()), math.prod(self.shapes[name]))
        return Mask(self.shapes, tensors)


def pack(bits: Tensor) -> Tensor:
    """uint8 [ceil(numel / 8)] on the CPU from a bool tensor; what is beyond the last weight is 0."""
    flat = bits.flatten().to(torch.uint8)
    flat = nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (flat << _PLACES.to(flat.device)).sum(1, dtype=torch.uint8).cpu()


def unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the inverse of `pack`, on the device of `packed`."""
    bits = (packed[:, None] >> _PLACES.to(packed.device)) & 1
    return bits.flatten()[: math.prod(shape)].view(shape).bool()


_PLACES = torch.arange(8, dtype=torch.uint8)
_ONES = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).sum(1)  # set bits of every byte


def _popcount(packed: Tensor) -> int:
    return int((torch.bincount(packed.flatten().long().cpu(), minlength=256) * _ONES).sum())


def _check_value(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], name: str, value: object) -> None:
    """UserError where this is nothing that a mask can say of the parameter."""
    if name not in shapes:
        every = dict(model.named_parameters(remove_duplicate=False))
        first = next((other for other in shapes if name in every and every[other] is every[name]), None)
        if first:
            raise UserError(f"'{name}' is tied: a mask has its weights under the name '{first}'")
        guess = nearest(name, shapes)
        raise UserError(f"'{name}' is no parameter of this model{f'; did you mean {guess!r}?' if guess else ''}")
    if isinstance(value, bool):
        return
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        given = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"the mask of '{name}' is a {given}; it has to be True, False or a tensor of torch.bool")
    if tuple(value.shape) != shapes[name]:
        raise UserError(f"the mask of '{name}' is {list(value.shape)}, and the parameter {list(shapes[name])}")


def _from_file(record: Mapping[str, str], packed: Mapping[str, Tensor]) -> Mask:
    """Return the mask that metadata and tensors describe; ValueError where they are not what `Mask.save` writes."""
    if missing := {"shapes", "selected"} - record.keys():
        raise ValueError(f"it does not say its {' and '.join(sorted(missing))}")
    shapes, whole = _SHAPES.validate_json(record["shapes"]), _NAMES.validate_json(record["selected"])
    about = _ABOUT.validate_json(record.get("about", "{}"))
    if not shapes:
        raise ValueError("it is of no parameters")
    if strange := (packed.keys() | whole) - shapes.keys():
        raise ValueError(f"'{min(strange)}' has no shape")
    if twice := packed.keys() & whole:
        raise ValueError(f"'{min(twice)}' is selected as a whole and in part")
    for name, bits in packed.items():
        numel = math.prod(shapes[name])
        if bits.dtype != torch.uint8 or bits.shape != (math.ceil(numel / 8),):
            raise ValueError(f"'{name}' has {bits.dtype} {list(bits.shape)} for the bits of {numel} weights")
        if numel % 8 and int(bits[-1]) >> numel % 8:
            raise ValueError(f"'{name}' has bits beyond its last weight")
        if isinstance(_canonical(bits, numel), bool):
            raise ValueError(f"'{name}' has bits that are all alike")
    return Mask(shapes, {name: packed.get(name, name in whole) for name in shapes}, about)


def _packed(value: bool | Tensor) -> bool | Tensor:
    return value if isinstance(value, bool) else _canonical(pack(value), value.numel())


def _canonical(packed: Tensor, numel: int) -> bool | Tensor:
    """Bits of `numel` weights, or True or False where they are all alike."""
    count = _popcount(packed)
    return count == numel if count in (0, numel) else packed
