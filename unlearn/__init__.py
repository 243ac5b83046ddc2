"""`unlearn`: run machine-unlearning experiments end to end. See README.md for the command, docs/ for the ideas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

if TYPE_CHECKING:
    from unlearn.models.loading import load as load


def __getattr__(name: str) -> Any:
    """`unlearn.load(run_dir)` without importing torch when only the command line is wanted."""
    if name == "load":
        from unlearn.models.loading import load

        return load
    raise AttributeError(f"module 'unlearn' has no attribute {name!r}")
