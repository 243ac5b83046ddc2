"""The report stage: pages and a summary of what a run folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.report.tracking import Tracker


def report(folder: Path, tracker: Tracker) -> None:
    """Write report.html and report.md, and print the summary."""
    from unlearn.report.page import write_report
    from unlearn.report.summary import print_summary

    with progress("writing the report", total=None):
        write_report(folder, tracker)
    print_summary(folder)


def show_leaks(folder: Path, tracker: Tracker) -> None:
    """Print the leak report alone, and log it."""
    from unlearn.report.attacks_folder import read_attacks
    from unlearn.report.leak import track_leaks
    from unlearn.report.leak_console import print_leaks

    print_leaks(folder)
    track_leaks(read_attacks(folder / "attacks"), tracker)
