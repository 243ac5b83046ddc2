"""What no task may be: sets without rows, rows without text, names of nothing. UserError, saying where."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from unlearn.data.words import blank
from unlearn.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unlearn.data.history import History


class LackingError(UserError):
    """A task lacks rows that a component needs ("needs retain rows, ..."); who asked the component says which it is."""


def check_task(task: Any) -> None:
    """Check a whole Task."""
    where = f"dataset '{task.name}' ({task.split})"
    for name, rows in task.sets.items():
        _check_rows(rows, name, where)
    for name, other in task.beside.items():
        _check_beside(task.rows(name), task.rows(other), f"{where}: '{name}' beside '{other}'")
    for i, fact in enumerate(task.facts):
        if not fact.entity or fact.entity not in fact.prompt:
            raise UserError(f"dataset '{task.name}': the prompt of fact {i} does not name its entity")
    _check_probes((*task.probes, *task.validation), where)
    for history in (task.history, task.pretrained):
        if history is not None:
            _check_history(task, history)
    for number, request in enumerate(task.requests, 1):
        _check_request(task, request, f"{where}, request {number}")


def check_overlap(task: Any) -> None:
    """UserError where a row to forget is also one to retain, of the task or of one of its requests."""
    parts = [("", task.sets), *((f", request {i}", request.sets) for i, request in enumerate(task.requests, 1))]
    for name, sets in parts:
        retain = sets.get("retain") or task.sets.get("retain", ())
        places = {text: i for i, row in reversed(list(enumerate(retain))) for text in _exchanges(row)}
        for i, row in enumerate(sets.get("forget", ())):
            if found := [places[text] for text in _exchanges(row) if text in places]:
                raise UserError(
                    f"dataset '{task.name}'{name}: forget row {i} is also retain row {found[0]}: take it out of one of "
                    "them, or insist with overlap=allow"
                )


def _exchanges(row: Any) -> list[tuple[str, str]]:
    """Return a row's questions with their answers, or its text, in composed characters and with single spaces."""
    questions, answers = getattr(row, "questions", ("",)), getattr(row, "answers", row.texts)
    return [(_spaced(question), _spaced(answer)) for question in questions for answer in answers]


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _check_rows(rows: Iterable[Any], name: str, where: str) -> None:
    if not rows:
        raise UserError(f"{where} has no {name} rows")
    for i, row in enumerate(rows):
        if row.fault:
            raise UserError(f"{where}: {name} row {i} has {row.fault}")


def _check_probes(probe_sets: Iterable[Any], where: str) -> None:
    names: set[str] = set()
    for probe_set in probe_sets:
        if probe_set.name in names:
            raise UserError(f"{where}: two probe sets are named '{probe_set.name}'")
        names.add(probe_set.name)
        if not probe_set.probes:
            raise UserError(f"{where}: the probe set '{probe_set.name}' has no probes")
        for i, probe in enumerate(probe_set.probes):
            if any(map(blank, (probe.question, probe.answer, *probe.perturbed_answers))):
                raise UserError(f"{where}: probe row {i} of '{probe_set.name}' has an empty question or answer")


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
            there = [p.name for p in (*task.probes, *task.validation)]
            if training.until.probes not in there:
                raise unknown("probe set", training.until.probes, there, f"dataset '{task.name}'")


def _check_request(task: Any, request: Any, where: str) -> None:
    if not request.sets and not request.probes:
        raise UserError(f"{where} names neither rows nor probes: it asks for nothing")
    for name, rows in request.sets.items():
        task.rows(name)
        _check_rows(rows, name, where)
    for name in request.probes:
        task.probe_set(name)
    for name, other in task.beside.items():
        given = set(request.sets.get(other, ()))
        if name not in request.sets and not given <= {*task.rows(other)}:
            raise UserError(f"{where}: some rows of '{other}' are not the task's, so '{name}' must be given too")
