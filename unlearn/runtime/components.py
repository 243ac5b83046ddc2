"""From a composed Hydra config to components: every `_target_` is a dataclass, every key one of its fields.

Component modules import nothing heavy at module level, so the whole configuration is checked in well under a second,
before torch is imported.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError

from unlearn.runtime.errors import UserError, nearest, unknown
from unlearn.runtime.paths import local_state
from unlearn.runtime.plugins import check_allowed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TARGET = "_target_"
_FINITE = ConfigDict(allow_inf_nan=False)


def conf_dir() -> Path:
    """Return the configuration folder: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def build(node: Any, where: str = "", plugins: frozenset[str] = frozenset(), hint: Any = None) -> Any:
    """Turn a config node into plain values and validated dataclass instances (recursively, by `_target_`).

    where: the node's dotted path ("" for the root), used in messages. plugins: modules outside the package that may be
    imported for a `_target_`, beside those of installed plugins. hint: the type that its place asks for. UserError for
    an unknown key, a wrong type, a value that the component refuses, or a class that is not what its place asks for.
    """
    if isinstance(node, DictConfig):
        try:
            node = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise UserError(f"'{error.full_key}' is not set") from error
        except OmegaConfBaseException as error:
            raise UserError("; ".join(str(error).split("\n")[:2])) from error
    if isinstance(node, Mapping):
        if TARGET in node:
            return _construct(node, where, plugins, hint)
        item = get_args(hint)[1] if get_origin(hint) is dict else None
        return {key: build(value, _join(where, str(key)), plugins, item) for key, value in node.items()}
    if isinstance(node, list):
        return [build(value, f"{where}[{i}]", plugins) for i, value in enumerate(node)]
    return node


def _construct(node: Mapping[str, Any], where: str, plugins: frozenset[str], hint: Any) -> Any:
    cls = _locate(node[TARGET], where, plugins)
    for kind in (hint, *get_args(hint)):
        if getattr(kind, "_is_protocol", False) or dataclasses.is_dataclass(kind):
            _check_kind(cls, kind, where)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for key, raw in node.items():
        if key == TARGET:
            continue
        place = _join(where, key)
        if key not in fields:
            raise unknown("key", str(key), fields, f"'{where}'" if where else "")
        values[key] = check(build(raw, place, plugins, hints[key]), hints[key], place)
    if missing := [
        n for n, f in fields.items() if n not in values and f.default is f.default_factory is dataclasses.MISSING
    ]:
        several = get_origin(hints[missing[0]]) is dict
        needs = f"at least one: {missing[0]}=[NAME,...]" if several else "it"
        raise UserError(f"'{_join(where, missing[0])}' is not set ({cls.__name__} needs {needs})")
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"'{where}': {error}") from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def check(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says (an int passes for a float, a list for a tuple); UserError where it is not."""
    if isinstance(value, Mapping) and get_origin(hint) is dict:
        return {key: check(item, get_args(hint)[1], _join(where, key)) for key, item in value.items()}
    if type(None) in (options := get_args(hint)) and getattr(options[0], "_is_protocol", False):
        return None if value is None else check(value, options[0], where)
    if getattr(hint, "_is_protocol", False):
        if not dataclasses.is_dataclass(value):
            wanted = f"a {hint.__name__} is wanted (choose one by name, as in {where}=NAME)"
            raise UserError(f"'{where}' is {str(value)[:80]!r}: {wanted}")
        _check_kind(type(value), hint, where)
        return value
    adapter = TypeAdapter(hint, config=None if dataclasses.is_dataclass(hint) else _FINITE)
    try:
        if isinstance(value, list) and _wants_tuple(hint):
            value = tuple(value)
        return adapter.validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(_in_words(error.errors(), where)) from error


def _check_kind(cls: type, kind: Any, where: str) -> None:
    """Raise UserError where a component's class is not what its place asks for: a protocol or a dataclass."""
    named = f"'{_join(where, TARGET)}' is '{cls.__module__}.{cls.__qualname__}': a {kind.__name__} is wanted"
    if dataclasses.is_dataclass(kind):
        if not issubclass(cls, kind):  # type: ignore[arg-type]
            raise UserError(named)
        return
    members = _members(kind)
    fields = {field.name for field in dataclasses.fields(cls)}
    if lacking := [name for name in members if name not in fields and not hasattr(cls, name)]:
        raise UserError(f"{named}, and this has no {', '.join(lacking)}")
    for name in members:
        if inspect.isfunction(wanted := inspect.getattr_static(kind, name, None)):
            asked = list(inspect.signature(wanted).parameters)[1:]
            taken = dict(list(inspect.signature(getattr(cls, name)).parameters.items())[1:])
            needed = [key for key, parameter in taken.items() if parameter.default is parameter.empty]
            if list(taken)[: len(asked)] != asked or len(needed) > len(asked):
                raise UserError(f"{named}, whose {name} takes ({', '.join(asked)}), not ({', '.join(needed)})")


def _members(protocol: Any) -> list[str]:
    """Return the names of a protocol's methods, properties and attributes, without those of every class."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False) and base is not Protocol]
    names = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", {}))}
    return sorted(name for name in names if not name.startswith("_") or name == "__call__")


def _in_words(errors: Sequence[ErrorDetails], where: str) -> str:
    """Pydantic's first finding as a line: the place, what is there, what is allowed (of a union, each of its parts)."""
    error = errors[0]
    place = "".join(f"[{part}]" for part in error["loc"] if isinstance(part, int))
    if error["type"] == "missing":
        return f"'{where}{place}' is not set"
    given = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
    others = [other["msg"].removeprefix("Input should be ") for other in errors[1:] if other["input"] is error["input"]]
    message = " or ".join([f"{error['msg'][0].lower()}{error['msg'][1:]}", *others]).replace("tuple", "list")
    guess = nearest(str(given), re.findall(r"'([^']*)'", message)) if error["type"] == "literal_error" else None
    hint = f"; did you mean '{guess}'?" if guess else ""
    return f"'{where}{place}' is {given!r}: {message}{hint}"


def cache_key(component: Any) -> Any:
    """Return a component as JSON-able values for cache keys.

    These are its class, the `version`s of the class and its ancestors, its fields or what its own `cache_key()` gives,
    and the state of the local files that its class's `files` names (fields that hold a path or None).
    """
    if dataclasses.is_dataclass(component) and not isinstance(component, type):
        own, cls = getattr(component, "cache_key", None), type(component)
        fields = (
            own() if own else {f.name: cache_key(getattr(component, f.name)) for f in dataclasses.fields(component)}
        )
        named = {name: getattr(component, name) for name in getattr(cls, "files", ())}
        states = {name: local_state(path) for name, path in named.items() if path is not None}
        return [f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}", component_versions(cls), fields, states]
    if isinstance(component, Mapping):
        return {key: cache_key(value) for key, value in component.items()}
    return [cache_key(value) for value in component] if isinstance(component, (list, tuple)) else component


def component_versions(cls: type) -> dict[str, int]:
    """Return the `version` that each class in the line of a component's ancestors declares for itself."""
    return {one.__qualname__: vars(one)["version"] for one in cls.__mro__ if isinstance(vars(one).get("version"), int)}


def _wants_tuple(hint: Any) -> bool:
    """Whether `hint` is a tuple type, also inside Annotated[...] or `... | None`."""
    return get_origin(hint) is tuple or any(_wants_tuple(arg) for arg in get_args(hint) if get_origin(hint) is not list)


def _locate(target: Any, where: str, plugins: frozenset[str]) -> Any:
    """Return the dataclass that a `_target_` names; UserError where there is none, or it may not be imported."""
    place = f"'{_join(where, TARGET)}'"
    if not (isinstance(target, str) and target.count(".") and all(map(str.isidentifier, target.split(".")))):
        raise UserError(f"{place} is {str(target)[:80]!r}: a class is wanted, as in MODULE.CLASS")
    module_name, _, class_name = target.rpartition(".")
    check_allowed(target, place, plugins)
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError, SyntaxError, NameError, TypeError) as error:
        raise UserError(f"{place} is {target!r}: no such class ({error})") from error
    if not (dataclasses.is_dataclass(cls) and isinstance(cls, type)):
        raise UserError(f"{place} is {target!r}: not a component (a dataclass)")
    return cls
