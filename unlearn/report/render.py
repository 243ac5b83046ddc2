"""Templates to files. HTML is escaped throughout, Markdown by a filter: what a model generates is not to be trusted."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from unlearn.artifacts import write_file
from unlearn.report.figures import Drawn, image
from unlearn.report.headline import show


def render(template: str, path: Path, **context: Any) -> None:
    """Render a template of this folder (`report.html.j2`) into `path`, whole or not at all."""
    text = _environment().get_template(template).render(**context)
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@dataclass(frozen=True)
class Embedded:
    """A figure as a page shows it: base64 SVG for HTML, a PNG file beside the page for Markdown."""

    title: str
    words: str
    svg: str
    file: str


def embed(folder: Path, name: str, drawn: Drawn) -> Embedded:
    """Write the figure as `figures/NAME.png` in `folder`, and give what the templates need of it."""
    file = Path("figures") / f"{name}.png"
    png = image(drawn.figure, "png")
    write_file(folder / file, lambda path: path.write_bytes(png))
    return Embedded(drawn.title, drawn.words, base64.b64encode(image(drawn.figure, "svg")).decode(), file.as_posix())


def markdown(text: object) -> str:
    """Any text as one table cell of Markdown: no markup, no HTML, no line breaks of its own."""
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", str(text))
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<br>".join(escaped.split("\n")).replace("\r", "")


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
    return environment
