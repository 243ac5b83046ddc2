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
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearn.cli.groups import choices, config_dirs, groups
from unlearn.runtime.components import TARGET, conf_dir
from unlearn.runtime.errors import UserError, unknown
from unlearn.runtime.plugins import check_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unlearn.cli.arguments import Arguments


def composed(arguments: Arguments, root: str = "config") -> tuple[DictConfig, dict[str, str]]:
    """Return the configuration of conf/ROOT.yaml under those overrides, and the name chosen for each group.

    UserError where there is no such choice, key or file.
    """
    with clear_errors(arguments, root):
        config = _compose(arguments, root, arguments.overrides, return_hydra_config=True)
        chosen = chosen_names(config.hydra)
        with open_dict(config):
            del config["hydra"]
    return config, chosen


def check_hydra(arguments: Arguments, root: str) -> None:
    """Raise UserError where a file from `--config-dir` would have Hydra import a module that the command does not name.

    This is Hydra itself: its launcher, its callbacks.
    """
    if arguments.config_dir is None or "-sc" in arguments.flags:  # tab completion runs nothing
        return
    parse = OverridesParser.create().parse_override
    once = [text for text in arguments.overrides if not parse(text).is_sweep_override()]
    with clear_errors(arguments, root):
        config = _compose(arguments, root, once, return_hydra_config=True)
        for place, target in _targets(OmegaConf.to_container(config.hydra, resolve=False), "hydra"):
            if target.partition(".")[0] not in ("hydra", "hydra_plugins"):
                check_allowed(target, f"'{place}._target_'", arguments.plugins)


def _targets(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the `_target_` of every node that has one."""
    if isinstance(node, dict):
        if TARGET in node:
            yield place, str(node[TARGET])
        for key, value in node.items():
            yield from _targets(value, f"{place}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{place}[{i}]")


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


def _compose(arguments: Arguments, root: str, overrides: Sequence[str], **options: bool) -> DictConfig:
    further = []
    if arguments.config_dir is not None:
        text = str(arguments.config_dir).replace("\\", "\\\\").replace("'", "\\'")
        further = [f"hydra.searchpath=['file://{text}']"]
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
    config = _compose(arguments, root, [text for text, group, name in parts if name in choices(group, folders)])
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
