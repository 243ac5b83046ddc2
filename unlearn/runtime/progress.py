"""Console progress of long work: a bar on a terminal, one line per stage elsewhere, only on the first process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unlearn.runtime import distributed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Advance = Callable[..., None]

_silenced = False
_bars: Progress | None = None  # the bars now on screen: work inside other work adds its own to them


def silence(silent: bool = True) -> None:
    """Show no progress from here on (or, with False, show it again)."""
    global _silenced
    _silenced = silent


def notify(line: str) -> None:
    """Tell the user something beside the bars: one line on stderr."""
    if not _silenced and distributed.is_main():
        _console().print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far some work has come.

    Gives `advance(n=1, **values)`: n more of `total` are done, and `values` (a loss) are shown beside the bar. The bar
    goes when the work is done; one line stays. All of it is on stderr, stdout is for results.

        with progress("training target", total=len(steps)) as advance:
            for step in steps:
                advance(1, loss=...)
    """
    if _silenced or not distributed.is_main():
        yield lambda n=1, **values: None
        return
    started, done, shown = time.perf_counter(), 0, ""
    console = _console()
    with _bar(console, description, total) as move:

        def advance(n: int = 1, **values: float) -> None:
            nonlocal done, shown
            done += n
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items()) or shown
            move(n, shown)

        yield advance
    count = f" ({done})" if total in (None, done) else f" ({done} of {total})"
    line = f"{description}{count if done else ''}: {time.perf_counter() - started:.1f} s{', ' if shown else ''}{shown}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bar(console: Console, description: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Show a bar on a terminal: yield a function that takes how much further it is and the text beside it."""
    global _bars
    if not console.is_terminal:
        yield lambda n, text: None
        return
    outermost = _bars is None
    bars = _bars = _bars or _new_bars(console)
    if outermost:
        bars.start()
    task = bars.add_task(description, total=total, values="")
    try:
        yield lambda n, text: bars.update(task, advance=n, values=text)
    finally:
        bars.remove_task(task)
        if outermost:
            bars.stop()
            _bars = None


def _new_bars(console: Console) -> Progress:
    from rich import progress as rich

    return rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[values]}", markup=False),
        console=console,
        transient=True,
    )


def _console() -> Console:
    """Return the console of the bars on screen (which stand in for stderr while they are), or a new one."""
    from rich.console import Console

    return _bars.console if _bars else Console(file=sys.stderr)
