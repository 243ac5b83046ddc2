"""Templates to files. HTML is escaped throughout, Markdown by a filter: what a model generates is not to be trusted."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from unlearn.report.headline import show
from unlearn.report.style import Drawn, percent, to_svg
from unlearn.runtime.store import write_file


def render(template: str, path: Path, **context: Any) -> None:
    """Render a template of this folder (`report.html.j2`) into `path`, whole or not at all."""
    text = _environment().get_template(template).render(**context)
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class Embedded:
    """A figure as a page shows it: base64 SVG in HTML, a file beside the page in Markdown."""

    title: str
    words: str
    svg: str
    file: str


def embed(folder: Path, name: str, drawn: Drawn) -> Embedded:
    """Write the figure as `figures/NAME.svg` in `folder`, and give what the templates need of it."""
    file = Path("figures") / f"{name}.svg"
    svg = to_svg(drawn.figure)
    write_file(folder / file, lambda path: path.write_bytes(svg))
    return Embedded(drawn.title, drawn.words, base64.b64encode(svg).decode(), file.as_posix())


def markdown(text: object) -> str:
    """Any text as one table cell of Markdown: no markup, no HTML, no line breaks of its own."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", str(text))
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<br>".join(escaped.splitlines())


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("unlearn.report", ""),
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    environment.filters["show"] = show
    environment.filters["percent"] = partial(percent, decimals=1)
    return environment
