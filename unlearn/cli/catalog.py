"""`unlearn list`: the choices of every config group, read from the header comments of their files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from unlearn.cli.groups import config_dirs, groups
from unlearn.runtime.errors import unknown

if TYPE_CHECKING:
    from pathlib import Path

_PLURALS = {"train": "train", "evaluate": "evaluate", "lora": "lora", "localize": "localizers"}
_IN_MODEL = {"prompt": "prompt@model.prompt"}  # groups that are chosen inside another component


def header(path: Path) -> tuple[str, str]:
    """Return the first two lines of a choice's header comment: what it is, and its source ("" where there is none)."""
    with open(path, encoding="utf-8") as file:
        lines = [line.removeprefix("#").strip() for line in file if line.startswith("#") and "@package" not in line]
    return (*lines, "", "")[0], (*lines, "", "")[1]


def kinds(config_dir: Path | None = None) -> list[str]:
    """Return what may be listed: the groups, by their plurals."""
    return [_plural(group) for group in groups(config_dirs(config_dir))]


def print_catalog(kind: str | None, config_dir: Path | None = None) -> None:
    """Print one group with the paper of each choice, or all in a line each; UserError for an unknown one.

    config_dir: a folder with further choices; none of their modules is imported.
    """
    found = groups(config_dirs(config_dir))
    known = {_plural(group): group for group in found}
    if kind is not None and kind not in known and kind not in found:
        raise unknown("kind", kind, known)
    width = max(len(name) for choices in found.values() for name in choices)
    for plural, group in known.items():
        if kind in (None, plural, group):
            sys.stdout.write(f"{plural} ({_IN_MODEL.get(group, group)}=NAME)\n")
            for name, path in found[group].items():
                line, source = header(path)
                sys.stdout.write(f"  {name:<{width}}  {line}\n")
                if kind and source and not source.startswith("unlearn run"):
                    sys.stdout.write(f"  {'':<{width}}  {source}\n")


def _plural(group: str) -> str:
    return _PLURALS.get(group, f"{group}s")
