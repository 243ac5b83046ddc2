"""What no task may be: sets without rows, rows without text, names of nothing. UserError, saying where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.data.history import History
from unlearn.data.narrowing import declared
from unlearn.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_task(task: Any) -> None:
    """Check all that there is of a Task, or of what is left of one that was narrowed."""
    where = f"dataset '{task.name}' ({task.split})"
    for name, rows in task.sets.items():
        _check_rows(rows, name, where)
    for name, other in task.beside.items():
        _check_beside(task.rows(name), task.rows(other), f"{where}: '{name}' beside '{other}'")
    for i, fact in enumerate(declared(task.facts)):
        if not fact.entity or fact.entity not in fact.prompt:
            raise UserError(f"dataset '{task.name}': the prompt of fact {i} does not name its subject")
    for probe_set in (*declared(task.probes), *declared(task.validation)):
        for i, probe in enumerate(probe_set.probes):
            if not all(text.strip() for text in (probe.question, probe.answer, *probe.perturbed_answers)):
                place = f"dataset '{task.name}': probe row {i} of '{probe_set.name}'"
                raise UserError(f"{place} has an empty question or answer")
    for history in (task.history, task.pretrained):
        if isinstance(history, History):
            _check_history(task, history)
    for number, request in enumerate(declared(task.requests), 1):
        _check_request(task, request, f"{where}, request {number}")


def _check_rows(rows: Iterable[Any], name: str, where: str) -> None:
    if not rows:
        raise UserError(f"{where} has no {name} rows")
    for i, row in enumerate(rows):
        if row.fault:
            raise UserError(f"{where}: {name} row {i} has {row.fault}")


def _check_beside(rows: tuple[Any, ...], others: tuple[Any, ...], where: str) -> None:
    if len(rows) != len(others):
        raise UserError(f"{where}: {len(rows)} rows beside {len(others)}")
    for i, (row, other) in enumerate(zip(rows, others, strict=True)):
        if _wordings(row) != _wordings(other):
            raise UserError(f"{where}: row {i} has other questions than the row that it belongs to")


def _wordings(row: Any) -> int:
    """Return in how many wordings a row can be drawn."""
    return len(getattr(row, "questions", ("",)))


def _check_history(task: Any, history: History) -> None:
    for training in (history.original, history.control):
        for name in training.sets if training else ():
            task.rows(name)
        if training and training.until:
            there = [p.name for p in (*declared(task.probes), *declared(task.validation))]
            if training.until.probes not in there:
                raise unknown("probe set", training.until.probes, there, f"dataset '{task.name}'")


def _check_request(task: Any, request: Any, where: str) -> None:
    for name, rows in request.sets.items():
        task.rows(name)
        _check_rows(rows, name, where)
    for name in request.probes:
        task.probe_set(name)
    for name, other in task.beside.items():
        given = set(request.sets.get(other, ()))
        if name not in request.sets and not given <= {*task.rows(other)}:
            raise UserError(f"{where}: some rows of '{other}' are not the task's, so '{name}' must be given too")
