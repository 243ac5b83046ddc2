"""From overrides to a composed configuration, with Hydra's errors as one clear line."""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearn.cli.groups import choices, config_dirs, groups
from unlearn.runtime.components import conf_dir
from unlearn.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unlearn.cli.arguments import Arguments

SEARCH = "hydra.searchpath"
"""The folders in which Hydra looks for config files, too."""


def composed(arguments: Arguments, root: str = "config") -> tuple[DictConfig, dict[str, str]]:
    """Return the configuration of conf/ROOT.yaml under those overrides, and the name chosen for each group.

    UserError where there is no such choice, key or file.
    """
    with clear_errors(arguments, root):
        config = compose(arguments, root, arguments.overrides, return_hydra_config=True)
        chosen = chosen_names(config.hydra)
        with open_dict(config):
            del config["hydra"]
    return config, chosen


def chosen_names(hydra_config: Any) -> dict[str, str]:
    """Return the name chosen for each group."""
    return {str(group): str(name) for group, name in hydra_config.runtime.choices.items()}


@contextmanager
def clear_errors(arguments: Arguments, root: str) -> Iterator[None]:
    """Turn what goes wrong while Hydra composes into UserError."""
    try:
        yield
    except MissingConfigException as error:
        raise _missing_choice(error, config_dirs(arguments.config_dir)) from error
    except ConfigCompositionException as error:
        raise _bad_override(error, arguments, root) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from error
    except ValueError as error:
        if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(str(Path(hydra.__file__).parent)):
            raise
        raise UserError(_one_line(error)) from error


def compose(arguments: Arguments, root: str, overrides: Sequence[str], **options: bool) -> DictConfig:
    """Return the configuration of conf/ROOT.yaml under overrides, with the choices of `arguments.config_dir`."""
    further = []
    if arguments.config_dir is not None:
        parse = OverridesParser.create().parse_override
        theirs: list[Any] = [one.value() for one in map(parse, overrides) if one.key_or_group == SEARCH]
        overrides = [text for text in overrides if parse(text).key_or_group != SEARCH]
        folders = [f"file://{arguments.config_dir}", *(theirs[0] if theirs else ())]
        quoted = [str(folder).replace("\\", "\\\\").replace("'", "\\'") for folder in folders]
        further = [f"{SEARCH}=[" + ",".join(f"'{folder}'" for folder in quoted) + "]"]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return hydra.compose(root, overrides=[*overrides, *further], **options)


def _missing_choice(error: MissingConfigException, folders: Sequence[Path]) -> UserError:
    """Return the error for a choice that does not exist."""
    found = re.search(r"Could not (?:find|load) '(.+)/(.*)'", str(error))
    if found is None:
        return UserError(_one_line(error))
    return unknown(found[1], found[2], error.options or choices(found[1], folders))


def _bad_override(error: ConfigCompositionException, arguments: Arguments, root: str) -> UserError:
    """Return the error for a key that does not exist, with the nearest one that does."""
    text = f"{error} {error.__cause__ or ''}"
    if at_package := re.search(r"Did you mean to override (\S+@\S+)\?", text):
        return UserError(f"unknown key '{at_package[1].partition('@')[0]}'; did you mean '{at_package[1]}'?")
    named = re.findall(r"(?:Could not (?:override|delete)[^']*'|full_key: )([^'=\s]+)", text)
    key = max(named, key=len, default="")
    if not key or key in (known := _known_keys(arguments, root)):
        return UserError(_one_line(error.__cause__ or error))
    if key.startswith("hydra."):
        return UserError(f"Hydra has no key '{key}' (see: unlearn run --cfg hydra)")
    folders = config_dirs(arguments.config_dir)
    parent, names = "", key.split(".")
    if names[1:] and names[0] not in known and (there := choices(names[0], folders)):
        return UserError(f"'{key}': first choose {names[0]}=NAME (allowed: {', '.join(there)})")
    while f"{parent}{names[0]}" in known and len(names) > 1:
        parent += f"{names.pop(0)}."
    siblings = {key.removeprefix(parent) for key in known if key.startswith(parent)}
    if not parent:
        siblings |= {group for group in groups(folders) if choices(group, folders)}
    return unknown("key", names[0], (key for key in siblings if "." not in key), f"'{parent[:-1]}'" if parent else "")


def _known_keys(arguments: Arguments, root: str) -> set[str]:
    """Return all dotted keys of the configuration composed from those overrides that choose components."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    folders = config_dirs(arguments.config_dir)
    parts = [(override, *override.partition("=")[::2]) for override in arguments.overrides]
    config = compose(arguments, root, [text for text, group, name in parts if name in choices(group, folders)])
    keys: set[str] = set()

    def visit(node: Any, prefix: str) -> None:
        if isinstance(node, DictConfig):
            for name in map(str, node):
                if name.startswith("_"):
                    continue
                keys.add(f"{prefix}{name}")
                visit(node._get_node(name), f"{prefix}{name}.")

    visit(config, "")
    return keys


def _one_line(error: BaseException) -> str:
    """Return Hydra's message without the listing that it may end with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    listing = next((i for i, line in enumerate(lines) if i and line.endswith(":")), len(lines))
    return "; ".join(lines[:listing]) or type(error).__name__
