"""`unlearn list`: the choices of every config group, read from the header comments of their files."""

from __future__ import annotations

import sys
from pathlib import Path

from unlearn.runtime.components import conf_dir
from unlearn.runtime.errors import unknown

_PLURALS = {"train": "train", "evaluate": "evaluate", "lora": "lora", "localize": "localizers"}
_IN_MODEL = {"prompt": "prompt@model.prompt"}  # groups that are chosen inside another component


def groups() -> dict[str, Path]:
    """Config groups by the name that `unlearn list` takes (the group's name in the plural)."""
    folders = sorted(f for f in conf_dir().iterdir() if f.is_dir() and any(f.glob("*.yaml")))
    return {_plural(folder.name): folder for folder in folders}


def choices(folder: Path) -> dict[str, tuple[str, str]]:
    """Names in a config group, each with the first lines of its file's header comment: what it is, and its source."""
    result = {}
    for path in sorted(folder.glob("*.yaml")):
        with open(path, encoding="utf-8") as file:
            lines = [line.removeprefix("#").strip() for line in file if line.startswith("#") and "@package" not in line]
        result[path.stem] = (lines[0], lines[1] if lines[1:] else "")
    return result


def print_catalog(kind: str | None) -> None:
    """Print one group with the paper of each choice, or all in a line each; UserError for an unknown one."""
    known = groups()
    if kind is not None and kind not in known:
        singular = {folder.name: plural for plural, folder in known.items()}
        if kind not in singular:
            raise unknown("kind", kind, known)
        kind = singular[kind]
    width = max(len(name) for folder in known.values() for name in choices(folder))
    for plural, folder in known.items():
        if kind in (None, plural):
            sys.stdout.write(f"{plural} ({_IN_MODEL.get(folder.name, folder.name)}=NAME)\n")
            for name, (line, source) in choices(folder).items():
                sys.stdout.write(f"  {name:<{width}}  {line}\n")
                if kind and source and not source.startswith("unlearn run"):
                    sys.stdout.write(f"  {'':<{width}}  {source}\n")


def _plural(group: str) -> str:
    return _PLURALS.get(group, f"{group}s")
