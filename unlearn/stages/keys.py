"""Keys of the stages' results: what decides a result, so that it is found again, and made anew where that changed.

What a component declares to read is what its key is made of, and all that it is handed: see Task.only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Row, Task, digest
from unlearn.runtime.components import cache_key
from unlearn.runtime.paths import local_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unlearn.recipe import Recipe
    from unlearn.training.update import Update

Key = dict[str, Any]
OFFERED = frozenset({"mask", "recipe", "lora", "update", "reference", "control"})
"""What a run lends to the components that name it in `reads`, beside the parts of the task."""


class Reader(Protocol):
    """A component that declares what it reads."""

    @property
    def reads(self) -> frozenset[str]:
        """Return names of the task's sets and parts, and of OFFERED."""
        ...


@dataclass(frozen=True)
class Asked:
    """A model that a component is handed: what identifies it, and how it is asked."""

    model: Key
    prompt: PromptFormat


def component_key(
    component: Reader, task: Task, asked: Asked, seed: int | None = None, offered: Mapping[str, Any] | None = None
) -> Key:
    """Return what decides what a component makes of a model.

    That is the component itself (class, versions, fields), the model, what the component reads of the task and of what
    is offered, the seed, and the versions of the libraries. offered: values by their names in OFFERED, components or
    JSON-able; what is not read is not in the key. Raises KeyError where the component reads what is not offered.
    """
    lent = {name: (offered or {})[name] for name in sorted(component.reads & OFFERED)}
    return {
        "component": cache_key(component),
        "model": asked.model,
        "prompt": cache_key(asked.prompt),
        "data": task.only(component.reads).key(),
        "offered": cache_key(lent),
        "seed": seed,
        "libraries": libraries(),
    }


def training_key(
    start: Key, prompt: PromptFormat, recipe: Recipe, update: Update, rows: Sequence[Row], seed: int
) -> Key:
    """Return what decides the weights of a plain training on rows. start: the key of what it starts from."""
    return {
        "start": start,
        "prompt": cache_key(prompt),
        "recipe": cache_key(recipe),
        "update": cache_key(update),
        "rows": digest(rows),
        "seed": seed,
        "libraries": libraries(),
    }


def path_key(path: str) -> Key:
    """Return what identifies a model on the hub or in a folder; of local files also their size and time of change."""
    return {"path": path, "files": local_state(path)}


def libraries() -> dict[str, str]:
    """Return the versions of the libraries on which weights and scores depend."""
    return {name: _version(name) for name in ("torch", "transformers")}


@cache
def _version(library: str) -> str:
    """Return a library's version; read once, for it takes 10 ms."""
    from importlib.metadata import version

    return version(library)
