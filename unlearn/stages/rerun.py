"""`run=FOLDER`: attack what an earlier run made, under that run's own configuration, or any model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from unlearn.models.layered import is_model
from unlearn.runtime.errors import UserError
from unlearn.runtime.paths import local
from unlearn.runtime.read import read_yaml
from unlearn.stages.config_keys import RERUN_KEYS
from unlearn.stages.run_folder import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def again(config: DictConfig, choices: Mapping[str, str], given: Iterable[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return the configuration and choices to run: the given ones, or those of the run that `run=` names.

    RERUN_KEYS are taken from here, all else from that run. given: keys that the command sets. UserError where `run` is
    neither a run nor a model folder, where another stage than attack and report is asked for, or where the command sets
    what the earlier run decides.
    """
    if config.get("run") is None:
        return config, dict(choices)
    folder = local(str(config.run))
    if others := set(config.stages) - {"prepare", "attack", "report"}:
        raise UserError(f"'run' attacks what is there, and does not {sorted(others)[0]}: add stages=[attack]")
    if is_model(folder):
        return config, dict(choices)
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"'run' is '{config.run}': neither a run folder (config.yaml) nor a model folder (config.json, or "
            "adapter_config.json)"
        )
    for key in given:
        if (root := key.partition(".")[0].partition("@")[0]) not in RERUN_KEYS:
            raise UserError(f"'{root}' is decided by the run in {folder}: set only {', '.join(RERUN_KEYS)}")
    theirs = read_yaml(folder / "config.yaml")
    mine: Any = OmegaConf.to_container(config, resolve=False)
    merged = OmegaConf.create({**theirs, **{key: mine[key] for key in RERUN_KEYS}, "output": str(folder)})
    return merged, said(folder).choices
