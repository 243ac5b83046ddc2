"""What an attack got out of each model, as files: every item's K, so that anything can be computed again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from unlearn.attacks.base import AttackResult, Outcome, Threat
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained
from unlearn.runtime.read import read_json
from unlearn.runtime.store import write_json

if TYPE_CHECKING:
    from pathlib import Path

Status = Literal["ok", "uninformative", "skipped", "error"]
AttackedRole = Literal["original", "unlearned", "control", "placebo"]
"""The model that was attacked; "placebo": the unlearned one, asked for answers that do not exist."""

_ABOUT, _OUTCOMES = "attack.json", "outcomes.parquet"
_COLUMNS = [*Outcome.__dataclass_fields__]


@dataclass(frozen=True)
class AttackRun:
    """One attack on one model."""

    result: AttackResult
    """What it gave."""
    seconds: float = math.nan
    """Its wall time [s]."""
    gflop: float = math.nan
    """Its arithmetic [GFLOP]."""
    status: Status = "ok"
    """Whether it was made."""
    reason: str = ""
    """Why it was not, where that is so."""

    @classmethod
    def failed(cls, status: Status, reason: str) -> AttackRun:
        """Return an attack that could not be made, or broke."""
        return cls(AttackResult(()), status=status, reason=reason)

    def save(self, folder: Path) -> None:
        """Write outcomes.parquet, attack.json and a Parquet file for each table."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [_cells(outcome) for outcome in self.result.outcomes]
        pd.DataFrame(rows, columns=_COLUMNS).to_parquet(folder / _OUTCOMES, index=False)
        for name, table in self.result.tables.items():
            table.save(folder / f"{name}.parquet")
        about = {name: getattr(self, name) for name in ("seconds", "gflop", "status", "reason")}
        of_attack = {name: getattr(self.result, name) for name in ("data", "budget", "measure", "chance")}
        numbers = {name: value if math.isfinite(value) else None for name, value in self.result.numbers.items()}
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in about.items()}
        write_json(folder / _ABOUT, finite | of_attack | {"numbers": numbers, "tables": list(self.result.tables)})

    @classmethod
    def load(cls, folder: Path) -> AttackRun:
        """Read what `save` wrote; UserError where it is missing or damaged."""
        path = folder / _ABOUT
        try:
            about = TypeAdapter(_About).validate_python(read_json(path))
            rows = pd.read_parquet(folder / _OUTCOMES)[_COLUMNS].to_dict("records")
            tables = {name: Explained.load(folder / f"{name}.parquet") for name in about.tables}
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"cannot read the attack in {folder}: {error}") from error
        cells: list[dict[str, Any]] = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
        outcomes = tuple(Outcome(**row) for row in cells)
        numbers = {name: math.nan if value is None else value for name, value in about.numbers.items()}
        result = AttackResult(outcomes, about.data, about.budget, about.measure, numbers, tables, about.chance)
        nan = math.nan
        return cls(
            result,
            nan if about.seconds is None else about.seconds,
            nan if about.gflop is None else about.gflop,
            about.status,
            about.reason,
        )


@dataclass(frozen=True)
class _About:
    seconds: float | None
    gflop: float | None
    status: Status
    reason: str
    data: str
    budget: str
    measure: str
    numbers: dict[str, float | None]
    tables: tuple[str, ...] = ()
    chance: float = 0.0


def _cells(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as a row.

    The files tell no nan from None, so that an estimate that is nan, the worst, becomes -inf.
    """
    worst = outcome.self_estimate is not None and math.isnan(outcome.self_estimate)
    return asdict(outcome) | {"texts": list(outcome.texts)} | ({"self_estimate": -math.inf} if worst else {})


def _plain(value: Any) -> Any:
    """Return a cell of the table as the outcome had it."""
    if isinstance(value, np.ndarray):
        return tuple(value) if value.dtype == object else value
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class Record:
    """One attack on all models."""

    name: str
    """Its name in the run."""
    threat: Threat
    """What the attacker has of the model."""
    family: str
    """What kind of attack it is."""
    reference: str
    """The paper that it comes from."""
    runs: Mapping[AttackedRole, AttackRun] = field(default_factory=dict)
    """Its run on each model."""

    @property
    def failure(self) -> AttackRun | None:
        """Return the first model's failure, where there is one."""
        return next((run for run in self.runs.values() if run.status != "ok"), None)

    def outcomes(self, role: AttackedRole) -> Sequence[Outcome]:
        """Return what the attack got out of a model, in the attack's order."""
        return self.runs[role].result.outcomes if role in self.runs else ()
