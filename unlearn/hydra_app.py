"""`unlearn run`: Hydra composes the configuration, we check it, and the pipeline runs it."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.config import build, conf_dir
from unlearn.errors import UserError, nearest, unknown


def run(arguments: list[str]) -> None:
    """Hand the command line to Hydra. Its errors, and ours, leave as UserError with one clear line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are, instead of a printed trace and status 1
    sys.argv = ["unlearn run", *arguments]
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
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group and error.options:
        return unknown(group, name, error.options)
    return UserError(_first_lines(error))


def _bad_override(error: ConfigCompositionException, arguments: list[str]) -> UserError:
    """The error for a key that does not exist, with the nearest one that does."""
    text = f"{error} {error.__cause__ or ''}"
    match = re.search(r"Could not (?:override|append to|delete)[^']*'([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if match is None:
        return UserError(_first_lines(error))
    key = match[1]
    known = _known_keys(arguments)
    if key in known:
        return UserError(f"'{key}': {_first_lines(error.__cause__ or error)}")
    guess = nearest(key, known)
    parent = key.rpartition(".")[0]
    allowed = sorted(k for k in known if k.rpartition(".")[0] == parent) or sorted(k for k in known if "." not in k)
    hint = f"; did you mean '{guess}'?" if guess else ""
    return UserError(f"unknown key '{key}'{hint} (allowed: {', '.join(allowed)})")


def _known_keys(arguments: list[str]) -> set[str]:
    """All dotted keys of the configuration composed from those overrides that choose components."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    chosen = [a for a in arguments if a.partition("=")[0] in groups and "," not in a.replace("[", ",", 0)]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = hydra.compose("config", overrides=chosen)
    keys: set[str] = set()

    def visit(node: Any, prefix: str) -> None:
        if isinstance(node, DictConfig):
            for name in node:
                keys.add(f"{prefix}{name}")
                visit(node._get_node(name), f"{prefix}{name}.")

    visit(config, "")
    return keys | groups


def _first_lines(error: BaseException) -> str:
    """Hydra's messages run over many lines, the first of which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2]) or type(error).__name__
