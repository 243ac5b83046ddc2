"""`unlearn run`: Hydra composes the configuration, we check it, and the pipeline runs it. `unlearn audit` likewise."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError, plain_errors, unknown
from unlearn.stages.rerun import again

_LISTS = ("metric", "attack")  # groups of which several choices are taken at once


def run(arguments: list[str], program: str = "unlearn run", root: str = "config") -> None:
    """Hand the command line to Hydra, with conf/ROOT.yaml as the root of the configuration ("audit": for an audit).

    Its errors, and ours, leave as UserError with one clear line.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are, instead of a printed trace and status 1
    overrides, flags = _split(arguments)
    sys.argv = [program, *_for_sweep([_checked(override) for override in overrides]), *flags]
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=root)(_job)
    try:
        application()
    except MissingConfigException as error:
        raise _missing_choice(error) from error
    except ConfigCompositionException as error:
        raise _bad_override(error, overrides, root) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error)) from error
    except ValueError as error:
        if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(str(Path(hydra.__file__).parent)):
            raise
        raise UserError(_one_line(error)) from error


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Overrides and flags (with their values), which may come in any order; UserError for a flag that Hydra lacks."""
    parser = get_args_parser()
    parser.error = _bad_flag  # type: ignore[method-assign]
    options, rest = parser.parse_known_args(arguments)
    if unknown_flags := [flag for flag in rest if flag.startswith("-")]:
        _bad_flag(f"unknown flag '{unknown_flags[0]}'")
    if options.experimental_rerun:
        _bad_flag("--experimental-rerun would unpickle a file")
    overrides = [*options.overrides, *rest]
    return overrides, [argument for argument in arguments if argument not in overrides]


def _bad_flag(message: str) -> NoReturn:
    raise UserError(f"{message} (see: unlearn run --help)")


def _checked(override: str) -> str:
    """The override as Hydra is to get it (it has another word for GROUP=null); UserError where it cannot be read."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"'{override}' is not of the form KEY=VALUE (see: unlearn run --help)") from error
        raise UserError(
            f"cannot read '{override}': brackets must close, and a value with accents, ~ or other signs stands in "
            f"quotes within quotes, as in \"{key}='{text}'\""
        ) from error
    group, value = parsed.key_or_group, parsed.value()
    if (choices := _choices(group)) and isinstance(value, int | float):
        raise unknown(group, str(value), choices)
    if choices and isinstance(value, list) and group not in _LISTS:
        together = " (several masks: localize=union or localize=intersection)" if group == "localize" else ""
        raise UserError(f"'{group}' takes one choice, not a list: {group}=NAME{together}")
    if group == "attack" and value == []:
        return "attack=none"
    return f"~{group}" if choices and value is None and parsed.type is OverrideType.CHANGE else override


def _for_sweep(overrides: list[str]) -> list[str]:
    """Hydra composes a sweep once without its choices, and would refuse the fields that only these have: force them.

    A field that a choice lacks is then refused by the check of that job's configuration.
    """
    parsed = [OverridesParser.create().parse_override(override) for override in overrides]
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
    return [
        f"++{override.input_line}" if override.key_or_group.partition(".")[0] in swept and _is_plain(override) else text
        for override, text in zip(parsed, overrides, strict=True)
    ]


def _is_plain(override: Override) -> bool:
    """Whether it is KEY.FIELD=VALUE, neither added nor deleted."""
    return override.type is OverrideType.CHANGE and "." in override.key_or_group and "@" not in override.key_or_group


def _job(config: DictConfig) -> None:
    """One run. In a sweep a bad combination is reported when its turn comes, and once more after the good ones."""
    hydra_config = HydraConfig.get()
    try:
        with plain_errors():
            choices = {str(group): str(name) for group, name in hydra_config.runtime.choices.items()}
            task: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
            given = [override.lstrip("~+").partition("=")[0] for override in task]
            if hydra_config.job.config_name == "audit":
                from unlearn.stages.audit import run as run_audit

                return run_audit(config, choices, given)
            config, choices = again(config, choices, given)
            experiment = build(config)
            from unlearn.stages.pipeline import run as run_pipeline

            resolved: Any = OmegaConf.to_container(config, resolve=True)
            run_pipeline(experiment, resolved, choices)
    except UserError as error:
        if hydra_config.mode == RunMode.MULTIRUN:
            print(f"job {hydra_config.job.num} of the sweep: {error}", file=sys.stderr)
            raise
        print(f"unlearn: error: {error}", file=sys.stderr)  # raised, it would get a line of Hydra's before it
        raise SystemExit(2) from error


def _missing_choice(error: MissingConfigException) -> UserError:
    """The error for a choice that does not exist."""
    found = re.search(r"Could not (?:find|load) '(.+)/(.*)'", str(error))
    return unknown(found[1], found[2], error.options or _choices(found[1])) if found else UserError(_one_line(error))


def _bad_override(error: ConfigCompositionException, overrides: list[str], root: str) -> UserError:
    """The error for a key that does not exist, with the nearest one that does."""
    text = f"{error} {error.__cause__ or ''}"
    if at_package := re.search(r"Did you mean to override (\S+@\S+)\?", text):
        return UserError(f"unknown key '{at_package[1].partition('@')[0]}'; did you mean '{at_package[1]}'?")
    named = re.findall(r"(?:Could not (?:override|delete)[^']*'|full_key: )([^'=\s]+)", text)
    key = max(named, key=len, default="")
    if not key or key in (known := _known_keys(overrides, root)):
        return UserError(_one_line(error.__cause__ or error))
    if key.startswith("hydra."):
        return UserError(f"Hydra has no key '{key}' (see: unlearn run --cfg hydra)")
    parent, names = "", key.split(".")
    if names[1:] and names[0] not in known and (choices := _choices(names[0])):
        return UserError(f"'{key}': first choose {names[0]}=NAME (allowed: {', '.join(choices)})")
    while f"{parent}{names[0]}" in known and len(names) > 1:
        parent += f"{names.pop(0)}."
    siblings = {key.removeprefix(parent) for key in known if key.startswith(parent)}
    if not parent:
        siblings |= {path.name for path in conf_dir().iterdir() if _choices(path.name)}
    return unknown("key", names[0], (key for key in siblings if "." not in key), f"'{parent[:-1]}'" if parent else "")


def _choices(group: str) -> list[str]:
    """The names in a group that stands in the defaults of the whole experiment; none where there is no such group."""
    return [] if group in ("hydra", "prompt") else sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _known_keys(overrides: list[str], root: str) -> set[str]:
    """All dotted keys of the configuration composed from those overrides that choose components."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    parts = [(override, *override.partition("=")[::2]) for override in overrides]
    chosen = [override for override, group, name in parts if name in _choices(group)]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = hydra.compose(root, overrides=chosen)
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
    """Hydra's message without the listing that it may end with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    listing = next((i for i, line in enumerate(lines) if i and line.endswith(":")), len(lines))
    return "; ".join(lines[:listing]) or type(error).__name__
