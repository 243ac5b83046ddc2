"""`unlearn run`: Hydra composes the configuration, we check it, and the pipeline runs it."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.config import build, conf_dir
from unlearn.errors import UserError, unknown


def run(arguments: list[str]) -> None:
    """Hand the command line to Hydra. Its errors, and ours, leave as UserError with one clear line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are, instead of a printed trace and status 1
    sys.argv = ["unlearn run", *arguments]
    if flags := [flag for flag in get_args_parser().parse_known_args(arguments)[1] if flag.startswith("-")]:
        raise UserError(f"unknown flag '{flags[0]}' (see: unlearn run --help)")
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_job)
    try:
        application()
    except MissingConfigException as error:
        raise _missing_choice(error) from error
    except ConfigCompositionException as error:
        raise _bad_override(error, arguments) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_lines(error)) from error


def _job(config: DictConfig) -> None:
    """One run. In a sweep a bad combination is reported at the end, after the good ones have run."""
    mode = HydraConfig.get().mode
    try:
        experiment = build(config)
        choices = HydraConfig.get().runtime.choices
        from unlearn.pipeline import run as run_pipeline

        resolved: Any = OmegaConf.to_container(config, resolve=True)
        run_pipeline(experiment, resolved, {str(group): str(name) for group, name in choices.items()})
    except UserError as error:
        print(f"unlearn: error: {error}", file=sys.stderr)
        if mode == RunMode.MULTIRUN:
            raise
        raise SystemExit(2) from error


def _missing_choice(error: MissingConfigException) -> UserError:
    """The error for a choice that does not exist."""
    match = re.search(r"Could not load '([^']+)'", str(error))
    group, _, name = (match[1] if match else error.missing_cfg_file or "").rpartition("/")
    folder = conf_dir() / group
    if not group or not folder.is_dir():
        return UserError(_first_lines(error))
    return unknown(group, name, (path.stem for path in folder.glob("*.yaml")))


def _bad_override(error: ConfigCompositionException, arguments: list[str]) -> UserError:
    """The error for a key that does not exist, with the nearest one that does."""
    text = f"{error} {error.__cause__ or ''}"
    match = re.search(r"Could not (?:override|append to|delete)[^']*'([^']+)'", text) or re.search(
        r"full_key: (\S+)", text
    )
    if match is None or match[1] in (known := _known_keys(arguments)):
        return UserError(_first_lines(error.__cause__ or error))
    if match[1].startswith("hydra."):
        return UserError(f"Hydra has no key '{match[1]}' (see: unlearn run --cfg hydra)")
    parent, names = "", match[1].split(".")
    while f"{parent}{names[0]}" in known and len(names) > 1:
        parent += f"{names.pop(0)}."
    siblings = [key.removeprefix(parent) for key in known if key.startswith(parent)]
    return unknown("key", names[0], (key for key in siblings if "." not in key), f"'{parent[:-1]}'" if parent else "")


def _known_keys(arguments: list[str]) -> set[str]:
    """All dotted keys of the configuration composed from those overrides that choose components."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    chosen = [a for a in arguments if "=" in a and a.partition("=")[0] in groups and "," not in a]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = hydra.compose("config", overrides=chosen)
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


def _first_lines(error: BaseException) -> str:
    """Hydra's messages run over many lines, the first of which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2]) or type(error).__name__
