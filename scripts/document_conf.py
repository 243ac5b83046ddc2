"""The comment behind each key of conf/*.yaml, from the docstring under the field that the key sets.

    python scripts/document_conf.py              # write them
    python scripts/document_conf.py --check      # say which differ; status 1 where one does
    python scripts/document_conf.py --missing    # fields that have no docstring yet

A comment is the docstring's first sentence; a choice may add words of its own after a semicolon. In components inside
of other ones, and behind lists over several lines, there need be none.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import yaml

from unlearn.runtime.components import TARGET, conf_dir
from unlearn.runtime.documentation import field_docs, in_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDE = 50
"""Lines that go beyond this column do not move the comments of the others."""


@dataclass(frozen=True)
class Component:
    """A component in a YAML file."""

    cls: type[Any]
    """Its class."""
    lines: dict[str, int]
    """The line of each of its keys, counted from 0."""
    ends: dict[str, int]
    """The column at which the key's value ends on that line."""
    whole: bool
    """Whether it is what the file is about, not a part of another component."""


def components(text: str) -> Iterator[Component]:
    """Yield every component of a YAML file."""
    yield from _components(yaml.compose(text), whole=True)


def _components(node: Any, whole: bool) -> Iterator[Component]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _components(item, whole=False)
    if not isinstance(node, yaml.MappingNode):
        return
    values = {key.value: (key, value) for key, value in node.value}
    if TARGET in values:
        lines, ends = {}, {}
        for name, (key, value) in values.items():
            line = key.start_mark.line
            if value.end_mark.line == line and value.start_mark.line == line:
                lines[name], ends[name] = line, value.end_mark.column
            elif isinstance(value, yaml.MappingNode):
                lines[name], ends[name] = line, key.end_mark.column + 1
        module, _, cls = values[TARGET][1].value.rpartition(".")
        yield Component(getattr(importlib.import_module(module), cls), lines, ends, whole)
    for _, value in values.values():
        yield from _components(value, whole and TARGET not in values)


def documented(text: str) -> str:
    """Return the YAML file with the comments that its fields' docstrings give, those of a component in one column."""
    lines = text.split("\n")
    for component in components(text):
        docs = field_docs(component.cls)
        there = {key: lines[line][component.ends[key] :].strip(" #") for key, line in component.lines.items()}
        wanted = {key: comment for key, comment in there.items() if comment}
        for key in docs.keys() & there.keys():
            short = in_yaml(docs[key])
            if (there[key] or component.whole) and not _says(there[key], short):
                wanted[key] = short
        if wanted == {key: comment for key, comment in there.items() if comment}:
            continue
        column = max(end for key in wanted if (end := component.ends[key]) < WIDE or len(wanted) == 1) + 2
        for key, comment in wanted.items():
            end = component.ends[key]
            lines[component.lines[key]] = f"{lines[component.lines[key]][:end]}  ".ljust(column) + f"# {comment}"
    return "\n".join(lines)


def _says(comment: str, short: str) -> bool:
    """Whether a comment is a docstring's short form, and maybe more; a name may keep its capital."""
    same = comment[:1].lower() + comment[1:], short[:1].lower() + short[1:]
    return same[0] == same[1] or same[0].startswith(f"{same[1]}; ")


def missing(text: str) -> Iterator[str]:
    """Yield the fields of a YAML file's components that have no docstring."""
    for component in components(text):
        docs = field_docs(component.cls)
        for field in fields(component.cls):
            if field.name not in docs:
                yield f"{component.cls.__module__}.{component.cls.__qualname__}.{field.name}"


def main() -> None:
    """Write, check or list, as the command says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, say which files differ")
    parser.add_argument("--missing", action="store_true", help="list the fields without a docstring")
    options = parser.parse_args()
    paths = sorted([*conf_dir().glob("*.yaml"), *conf_dir().glob("*/*.yaml")])
    if options.missing:
        print("\n".join(sorted({name for path in paths for name in missing(path.read_text(encoding="utf-8"))})))
        return
    stale = [path for path in paths if documented(text := path.read_text(encoding="utf-8")) != text]
    for path in stale:
        print(path.relative_to(conf_dir()))
        if not options.check:
            path.write_text(documented(path.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(1 if stale and options.check else 0)


if __name__ == "__main__":
    main()
