"""The arguments of `unlearn run` and `unlearn audit`: overrides for Hydra, its flags, and plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from unlearn.cli.groups import choices, config_dirs
from unlearn.runtime import plugins
from unlearn.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

_LISTS = ("metric", "attack", "evaluate")  # groups of which several choices are taken at once


@dataclass(frozen=True)
class Arguments:
    """What was asked for."""

    overrides: tuple[str, ...]
    """Overrides as Hydra is to get them, without `plugins=`."""
    flags: tuple[str, ...] = ()
    """Hydra's flags with their values."""
    plugins: frozenset[str] = frozenset()
    """Modules outside the package that may be imported for components: only a command names them, never a file."""
    config_dir: Path | None = None
    """A folder with further choices for the config groups."""

    @property
    def keys(self) -> list[str]:
        """The keys that are set."""
        return [override.lstrip("~+").partition("=")[0] for override in self.overrides]

    def for_sweep(self) -> list[str]:
        """Return the overrides for Hydra, with fields forced that only the choices of a sweep have.

        Hydra composes a sweep once without its choices, and would refuse them. A field that a choice lacks is
        then refused by the check of that job's configuration.
        """
        parsed = [OverridesParser.create().parse_override(override) for override in self.overrides]
        swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
        return [
            f"++{override.input_line}"
            if override.key_or_group.partition(".")[0] in swept and _is_plain(override)
            else text
            for override, text in zip(parsed, self.overrides, strict=True)
        ]


def from_command(arguments: Sequence[str]) -> Arguments:
    """Read overrides and flags, which may come in any order; UserError where one cannot be read."""
    parser = get_args_parser()
    parser.error = _bad_flag  # type: ignore[method-assign]
    options, rest = parser.parse_known_args(list(arguments))
    if unknown_flags := [flag for flag in rest if flag.startswith("-")]:
        _bad_flag(f"unknown flag '{unknown_flags[0]}'")
    if options.experimental_rerun:
        _bad_flag("--experimental-rerun would unpickle a file")
    if options.config_path is not None or options.config_name is not None:
        _bad_flag("the root of the configuration is unlearn's own: --config-dir DIR adds choices to it")
    overrides = [*options.overrides, *rest]
    flags = tuple(argument for argument in arguments if argument not in overrides)
    return from_overrides(overrides, options.config_dir, flags)


def from_overrides(
    overrides: Sequence[str], config_dir: str | Path | None = None, flags: tuple[str, ...] = ()
) -> Arguments:
    """Read overrides; UserError where one cannot be read, or the folder is not there."""
    folder = None if config_dir is None else Path(config_dir).absolute()
    folders = config_dirs(folder)
    parsed = [_parsed(override) for override in overrides]
    named = [one for one in parsed if one.key_or_group == plugins.PLUGINS]
    others = tuple(_checked(one, folders) for one in parsed if one.key_or_group != plugins.PLUGINS)
    return Arguments(others, flags, frozenset().union(*map(_named, named)), folder)


def _named(override: Override) -> frozenset[str]:
    """Return the modules that `plugins=` names."""
    if override.type is not OverrideType.CHANGE or override.is_sweep_override():
        raise UserError(f"'{override.input_line}' is not of the form {plugins.PLUGINS}=[MODULE,...]")
    value = override.value()
    return plugins.checked(value if isinstance(value, list) else [value])


def _bad_flag(message: str) -> NoReturn:
    raise UserError(f"{message} (see: unlearn run --help)")


def _parsed(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"'{override}' is not of the form KEY=VALUE (see: unlearn run --help)") from error
        raise UserError(
            f"cannot read '{override}': brackets must close, and a value with accents, ~ or other signs stands in "
            f"quotes within quotes, as in \"{key}='{text}'\""
        ) from error


def _checked(parsed: Override, folders: Sequence[Path]) -> str:
    """Return the override as Hydra is to get it (it has another word for GROUP=null); UserError for a bad choice."""
    group, value = parsed.key_or_group, parsed.value()
    there = choices(group, folders)
    if there and isinstance(value, int | float):
        raise unknown(group, str(value), there)
    if there and isinstance(value, list) and group not in _LISTS:
        together = " (several masks: localize=union or localize=intersection)" if group == "localize" else ""
        raise UserError(f"'{group}' takes one choice, not a list: {group}=NAME{together}")
    if group == "attack" and value == []:
        return "attack=none"
    text = str(parsed.input_line)
    return f"~{group}" if there and value is None and parsed.type is OverrideType.CHANGE else text


def _is_plain(override: Override) -> bool:
    """Whether it is KEY.FIELD=VALUE, neither added nor deleted."""
    return override.type is OverrideType.CHANGE and "." in override.key_or_group and "@" not in override.key_or_group
