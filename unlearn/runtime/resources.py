"""Wall time and peak memory of a stage."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from types import TracebackType

_EVERY = 0.05  # seconds between two looks at the process's memory


@dataclass(frozen=True)
class Cost:
    """What a stage cost: wall time [s], peak resident memory [MB]; `cached`: made by an earlier run."""

    name: str
    seconds: float
    peak_rss_mb: float
    cached: bool


class Meter:
    """Context manager: `seconds` of wall time and `peak_rss_mb` (MiB, sampled) of the block it holds."""

    seconds: float = 0.0
    peak_rss_mb: float = 0.0

    def __enter__(self) -> Meter:
        self._start = time.perf_counter()
        self._done = threading.Event()
        self._process = psutil.Process()
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        self.seconds = time.perf_counter() - self._start

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self._sample()

    def _sample(self) -> None:
        self.peak_rss_mb = max(self.peak_rss_mb, self._process.memory_info().rss / 2**20)
