"""A limit on time: what it stops, and what it leaves behind."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest

from unlearn.runtime.time_limit import TimeUp, deadline


def _wait(until: float) -> None:
    while time.monotonic() < until:
        time.sleep(0.001)


def _wait_whatever_comes() -> None:
    for _ in range(1000):
        with suppress(Exception):
            time.sleep(20)


def test_a_block_is_stopped_at_its_time() -> None:
    start = time.monotonic()
    with pytest.raises(TimeUp), deadline(0.05):
        _wait(start + 20)
    assert 0.05 <= time.monotonic() - start < 20


def test_no_exception_handler_keeps_it_going() -> None:
    with pytest.raises(TimeUp), deadline(0.05):
        _wait_whatever_comes()


@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_a_block_in_time_leaves_no_timer(seconds: float | None) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with deadline(seconds):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before
