"""`unlearn`: run machine-unlearning experiments end to end. See README.md for the command, docs/ for the ideas.

run = unlearn.run(["method=npo", "dataset.authors=20"])    # as `unlearn run method=npo dataset.authors=20`
run.results                                                # every metric of every role, a DataFrame
model, tokenizer = unlearn.load(run.folder)                # the unlearned model
unlearn.ask(run.folder, ["Where was Ada Lovelace born?"])  # its greedy answers
unlearn.compare(["outputs/a", "outputs/b"])                # runs side by side
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unlearn.runtime.version import __version__

if TYPE_CHECKING:
    from unlearn.api import Run as Run
    from unlearn.api import ask as ask
    from unlearn.api import compare as compare
    from unlearn.api import load as load
    from unlearn.api import results as results
    from unlearn.api import run as run
    from unlearn.runtime.errors import UserError as UserError

_PUBLIC = {
    "Run": "unlearn.api",
    "UserError": "unlearn.runtime.errors",
    "ask": "unlearn.api",
    "compare": "unlearn.api",
    "load": "unlearn.api",
    "results": "unlearn.api",
    "run": "unlearn.api",
}
__all__ = ["Run", "UserError", "__version__", "ask", "compare", "load", "results", "run"]


def __getattr__(name: str) -> Any:
    """Return a public name, imported when it is first asked for: the command line alone needs no torch."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'unlearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
