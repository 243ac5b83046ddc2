"""The one error that users see: a single line that says what is wrong, where, and what is allowed."""

from __future__ import annotations

import difflib
import re
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Bad input. The command prints the message as one line and exits with status 2, without a traceback."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what the machine refuses (no memory, no permission, a name too long) into the one-line error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:  # it names the file; a traceback would add nothing
        raise UserError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        reason = shorten(str(error), 160, placeholder=" ...")
        raise UserError(f"out of memory, a smaller model, batch or train.micro_tokens may help ({reason})") from error


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name most like `name`, or None where none is like it."""
    matches = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(what: str, name: str, allowed: Iterable[str], where: str = "") -> UserError:
    """Return the error for a name that is not among `allowed`: it names the nearest valid one and lists the rest."""
    allowed = sorted(map(str, allowed))
    guess = nearest(name, allowed)
    hint = f"; did you mean '{guess}'?" if guess else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {what} '{name}'{place}{hint} (allowed: {', '.join(allowed) or 'none'})")
