"""`unlearn run` and `unlearn audit` as Hydra applications: its flags, sweeps and launchers around one job each."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from unlearn.api import start
from unlearn.cli.arguments import from_command
from unlearn.cli.compose import chosen_names, clear_errors
from unlearn.cli.hydra_imports import check_hydra
from unlearn.runtime.components import conf_dir
from unlearn.runtime.errors import UserError, plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run(command: Sequence[str], program: str = "unlearn run", root: str = "config") -> None:
    """Hand the command line to Hydra, with conf/ROOT.yaml as the root of the configuration ("audit": for an audit).

    Its errors, and ours, leave as UserError with one clear line.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us as they are, instead of a printed trace and status 1
    arguments = from_command(command)
    check_hydra(arguments, root)
    sys.argv = [program, *arguments.for_sweep(), *arguments.flags]
    wrap = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=root)
    with clear_errors(arguments, root):
        wrap(_job(arguments.plugins))()


def _job(plugins: frozenset[str]) -> Callable[[DictConfig], None]:
    """Return one run as a function of its configuration, as a launcher sends it to where it is to be run."""

    def job(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        try:
            with plain_errors():
                task = [str(override) for override in OmegaConf.to_container(hydra_config.overrides.task) or ()]
                keys = [override.lstrip("~+").partition("=")[0] for override in task]
                start(str(hydra_config.job.config_name), config, chosen_names(hydra_config), keys, plugins)
        except UserError as error:
            # In a sweep a bad combination is reported when its turn comes, and once more after the good ones.
            if hydra_config.mode == RunMode.MULTIRUN:
                print(f"job {hydra_config.job.num} of the sweep: {error}", file=sys.stderr)
                raise
            print(f"unlearn: error: {error}", file=sys.stderr)  # raised, it would get a line of Hydra's before it
            raise SystemExit(2) from error

    return job
