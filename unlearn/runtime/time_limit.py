"""A limit on the time that a block may take."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class TimeUp(BaseException):
    """The block took longer than it may. Like an interrupt it is no Exception, which libraries may catch."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Raise TimeUp in the block once `seconds` have passed (None: never).

    This is at whatever it is doing then: what it was changing is to be thrown away. By a timer signal, so only in the
    main thread, and where the system has them.
    """
    if seconds is None:
        yield
        return

    def up(number: int, frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
