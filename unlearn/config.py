"""From a composed Hydra config to components: every `_target_` is a dataclass, every key one of its fields.

Component modules import nothing heavy at module level, so the whole configuration is checked in well under a second,
before torch is imported.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from unlearn.errors import UserError, unknown

TARGET = "_target_"


def conf_dir() -> Path:
    """The configuration folder: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def build(node: Any, where: str = "") -> Any:
    """Turn a config node into plain values and validated dataclass instances (recursively, by `_target_`).

    `where` is the node's dotted path ("" for the root), used in messages. Raises UserError for an unknown key, a wrong
    type or a value that the component refuses.
    """
    if isinstance(node, DictConfig):
        try:
            node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise UserError("; ".join(str(error).split("\n")[:2])) from error
    if isinstance(node, Mapping):
        if TARGET in node:
            return _construct(node, where)
        return {key: build(value, _join(where, str(key))) for key, value in node.items()}
    if isinstance(node, list):
        return [build(value, f"{where}[{i}]") for i, value in enumerate(node)]
    return node


def _construct(node: Mapping[str, Any], where: str) -> Any:
    cls = _locate(node[TARGET], where)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for key, raw in node.items():
        if key == TARGET:
            continue
        place = _join(where, key)
        if key not in fields:
            raise unknown("key", str(key), fields, f"'{where}'" if where else "")
        values[key] = check(build(raw, place), hints[key], place)
    if missing := [
        n for n, f in fields.items() if n not in values and f.default is f.default_factory is dataclasses.MISSING
    ]:
        raise UserError(f"'{_join(where, missing[0])}' is not set ({cls.__name__} needs it)")
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"'{where}': {error}") from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def check(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says (an int passes for a float, a list for a tuple); UserError where it is not."""
    given = value
    if getattr(hint, "_is_protocol", False):
        if not dataclasses.is_dataclass(value):
            raise UserError(f"'{where}' is {value!r}: a component is wanted (choose one by name, as in {where}=NAME)")
        return value
    adapter = TypeAdapter(hint)
    try:
        if isinstance(value, list) and _wants_tuple(hint):
            value = tuple(value)
        return adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else "" for part in first["loc"])
        raise UserError(f"'{where}{place}' is {given!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def _wants_tuple(hint: Any) -> bool:
    """Whether `hint` is a tuple type, also inside Annotated[...] or `... | None`."""
    return get_origin(hint) is tuple or any(_wants_tuple(arg) for arg in get_args(hint) if get_origin(hint) is not list)


def _locate(target: Any, where: str) -> Any:
    module_name, _, class_name = str(target).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"'{where}.{TARGET}' is {target!r}: no such class ({error})") from error
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"'{where}.{TARGET}' is {target!r}: not a component (a dataclass)")
    return cls
