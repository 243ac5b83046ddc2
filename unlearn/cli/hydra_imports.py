"""What Hydra itself imports for a command: its callbacks, launcher, sweeper and the classes of its logging."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.cli.compose import SEARCH, clear_errors, compose
from unlearn.cli.groups import choices, config_dirs
from unlearn.runtime.components import TARGET
from unlearn.runtime.plugins import check_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydra.core.override_parser.types import Override

    from unlearn.cli.arguments import Arguments

_HYDRAS = re.compile(r"(hydra\._internal\.core_plugins|hydra\.experimental\.callbacks|hydra_plugins)\.[\w.]+")
_LOGGINGS = re.compile(r"(ext://)?(logging\.(handlers\.)?[A-Z]\w*|colorlog\.\w+|sys\.(stdout|stderr))")
_LOGS = ("hydra.job_logging", "hydra.hydra_logging")
_CLASSES = ("class", "()", "queue", "listener")  # keys whose value `logging.config` imports


def check_hydra(arguments: Arguments, root: str) -> None:
    """Raise UserError where Hydra would import, for this command, a module that the command does not name.

    Nothing is imported to find out. The package's own files name no such module: only where others could come in is the
    configuration composed.
    """
    parse = OverridesParser.create().parse_override
    parsed = [parse(text) for text in arguments.for_sweep()]
    for override in parsed:
        _check_search(override, arguments.plugins)
    if "-sc" in arguments.flags or not _takes_others(arguments, parsed):  # tab completion runs nothing
        return
    once = [str(one.input_line) for one in parsed if not one.is_sweep_override()]
    # a field may be that of another swept choice: only choices, and what is Hydra's, are tried one by one
    plain = [one for one in parsed if "." not in one.key_or_group or one.key_or_group.startswith("hydra.")]
    sweeps = [one for one in plain if one.is_choice_sweep()]
    swept = [[f"{one.get_key_element()}={value}"] for one in sweeps for value in _values(one, arguments)]
    for further in ([], *swept):
        with clear_errors(arguments, root):
            node = compose(arguments, root, [*once, *further], return_hydra_config=True).hydra
            for place, target in _named(node, "hydra"):
                check_allowed(target, f"'{place}'", arguments.plugins)


def _check_search(override: Override, plugins: frozenset[str]) -> None:
    """Raise UserError where config files are to be looked for in a package that is not named: that imports it."""
    if override.key_or_group == SEARCH:
        value = override.value()
        for place in value if isinstance(value, list) else [value]:
            if str(place).startswith("pkg://"):
                check_allowed(str(place).removeprefix("pkg://"), f"'{SEARCH}'", plugins)


def _takes_others(arguments: Arguments, overrides: list[Override]) -> bool:
    """Return whether the command sets what is Hydra's, or may choose files that are not the package's."""
    return arguments.config_dir is not None or any(
        one.key_or_group.partition(".")[0].partition("/")[0] == "hydra"
        or ("." not in one.key_or_group and "/" in str(one.input_line))  # a choice may be named by its path
        for one in overrides
    )


def _values(override: Override, arguments: Arguments) -> list[str]:
    """Return the choices of a sweep, but for numbers, which choose no file."""
    if isinstance(pattern := override.value(), Glob):
        return pattern.filter(choices(override.key_or_group, config_dirs(arguments.config_dir)))
    return [text for text in override.sweep_string_iterator() if not re.fullmatch(r"[-+.\de]+", text)]


def _named(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield where something stands that Hydra would import, and what: all but its own, its plugins' and logging's."""
    if isinstance(node, DictConfig | dict):
        children = [(f"{place}.{key!s}", str(key), _value(node, key)) for key in node]
    elif isinstance(node, ListConfig | list):
        children = [(f"{place}[{i}]", "", _value(node, i)) for i in range(len(node))]
    else:
        return
    for where, key, value in children:
        if isinstance(value, str):
            logs = where.startswith(_LOGS)
            if key == TARGET and not _HYDRAS.fullmatch(value):
                yield where, value
            elif logs and (key in _CLASSES or value.startswith("ext://")) and not _LOGGINGS.fullmatch(value):
                yield where, value.removeprefix("ext://")
        yield from _named(value, where)


def _value(node: Any, key: Any) -> Any:
    """Return an entry, with what it refers to in its place; where that is not known yet, the text that refers to it."""
    if not isinstance(node, DictConfig | ListConfig):
        return node[key]
    if OmegaConf.is_missing(node, key):
        return None
    try:
        return node[key]
    except OmegaConfBaseException:
        raw: Any = node._get_node(key)
        return str(raw._value())
