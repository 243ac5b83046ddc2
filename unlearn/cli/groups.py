"""Config groups and their choices: the package's, and those of a folder given by `--config-dir`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.runtime.components import conf_dir
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

Groups = dict[str, dict[str, Path]]
"""The file of each choice, by group and name."""


def config_dirs(config_dir: Path | None) -> tuple[Path, ...]:
    """Return the folders that choices come from.

    UserError where `config_dir` is no folder, or has a choice by the name of one of the package's: it would be unused.
    """
    if config_dir is None:
        return (conf_dir(),)
    if not config_dir.is_dir():
        raise UserError(f"--config-dir: folder '{config_dir}' not found")
    ours = conf_dir()
    for path in sorted([*config_dir.glob("*.yaml"), *config_dir.glob("*/*.yaml")]):
        name = path.relative_to(config_dir)
        if config_dir != ours and (ours / name).is_file():
            raise UserError(f"{path} has the name of a choice that there is ({name.with_suffix('')}): rename it")
    return (ours, config_dir)


def groups(folders: Sequence[Path]) -> Groups:
    """Return all groups with their choices, both in the order of the alphabet."""
    found: Groups = {}
    for path in sorted((path for folder in folders for path in folder.glob("*/*.yaml")), key=_place):
        found.setdefault(path.parent.name, {})[path.stem] = path
    return found


def choices(group: str, folders: Sequence[Path]) -> list[str]:
    """Return the names in a group that stands in the defaults of the experiment; none where there is no such group."""
    return [] if group in ("hydra", "prompt") else sorted(p.stem for f in folders for p in (f / group).glob("*.yaml"))


def _place(path: Path) -> tuple[str, str]:
    return path.parent.name, path.stem
