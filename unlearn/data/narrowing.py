"""What a component is handed: the parts that it declares to read, and an error for every other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


class UndeclaredReadError(Exception):
    """A component reads a part of the task or a model that it does not name in `reads`: a mistake in the component."""

    def __init__(self, part: str) -> None:
        super().__init__(f"the component reads '{part}' without naming it in `reads`")


class Undeclared:
    """Stands for what was not declared: whatever is done with it raises UndeclaredReadError."""

    def __init__(self, part: str) -> None:
        self.part = part

    def _refuse(self, *_: object) -> NoReturn:
        raise UndeclaredReadError(self.part)

    def __call__(self) -> NoReturn:
        """Refuse to give a model."""
        self._refuse()

    __iter__ = __len__ = __getitem__ = __contains__ = __bool__ = __add__ = __radd__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UndeclaredReadError(self.part)


class DeclaredSets(Mapping[str, T], Generic[T]):
    """The declared ones of a task's sets; a name that was not declared raises UndeclaredReadError, there or not."""

    def __init__(self, sets: Mapping[str, T], declared: frozenset[str]) -> None:
        self.declared = declared
        self._sets = {name: rows for name, rows in sets.items() if name in declared}

    def __getitem__(self, name: str) -> T:
        if name not in self.declared:
            raise UndeclaredReadError(name)
        return self._sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)
