"""Components from outside the package: which modules may be imported for them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PLUGINS = "plugins"
"""The key by which a command names modules."""
GROUP = "unlearn.plugins"
"""The entry points by which an installed package offers its components."""
_PACKAGE = __name__.partition(".")[0]
_NAMED: ContextVar[frozenset[str]] = ContextVar("plugins", default=frozenset())


def installed() -> frozenset[str]:
    """Return the top-level modules that installed packages offer, none of them imported."""
    return frozenset(_top(point.module) for point in entry_points(group=GROUP))


def checked(names: Iterable[object]) -> frozenset[str]:
    """Return the modules that a command names; UserError where one is not the name of a top-level module."""
    names = list(names)
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise UserError(f"'plugins' has {str(name)!r}: name top-level Python modules, as in plugins=[my_module]")
    return frozenset(map(str, names))


@contextmanager
def allowing(names: Iterable[str]) -> Iterator[None]:
    """While active, modules that a command names may be imported for what model folders hold, too."""
    token = _NAMED.set(_NAMED.get() | frozenset(names))
    try:
        yield
    finally:
        _NAMED.reset(token)


def check_allowed(target: str, where: str, named: frozenset[str]) -> None:
    """Raise UserError where the class `target` is neither ours, nor of a plugin that is named or installed."""
    module, named = _top(target), named | _NAMED.get()
    if module != _PACKAGE and module not in named and module not in installed():
        raise UserError(
            f"{where} is '{target}': the module '{module}' is no part of unlearn, and is imported only where the "
            f"command names it: add plugins=[{', '.join(sorted({*named, module}))}]"
        )


def _top(dotted: str) -> str:
    return dotted.partition(".")[0]
