"""A finished run folder as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from unlearn.leak.tables import LEAK
from unlearn.metrics.base import Reading, Result
from unlearn.report.attacks_folder import ATTACKS, Attacks, read_attacks
from unlearn.report.files import Number, columns
from unlearn.report.localization_folder import LOCALIZE, Localization, read_localization
from unlearn.runtime.errors import UserError, nearest
from unlearn.runtime.read import read_json, read_yaml
from unlearn.runtime.resources import Cost
from unlearn.score.table import GENERATIONS

if TYPE_CHECKING:
    from unlearn.leak.leak_table import Leaks

MODELS = ("original", "unlearned", "control")  # the order in which they are shown everywhere
READINGS = "readings.json"  # how the metrics are to be shown
UNLEARNED = "unlearned"  # the folder of the unlearned model and its training log
REQUESTS = "requests"  # the folder of the same of every request but the last


@dataclass(frozen=True)
class TaskName:
    """The dataset and its split."""

    name: str
    split: str

    def __str__(self) -> str:
        return f"{self.name} {self.split}".strip()


@dataclass(frozen=True)
class About:
    """`run.json`: what was run, where, and at what cost."""

    version: str
    name: str
    seed: int
    task: TaskName
    device: str
    has_control: bool
    notes: tuple[str, ...]
    stages: tuple[Cost, ...]
    choices: dict[str, str] = field(default_factory=dict)  # the name chosen in each config group
    n_parameters: int | None = None


@dataclass(frozen=True)
class Run:
    """Everything a report needs of a run folder.

    results: by model ("original", "unlearned" and, where there is one, "control"), then by `Result.key`; empty where
    only a mask was made, or only an attack. aims: by probe set. history: the log of the unlearning, a row per optimizer
    step; curve: a row of metrics per point of the trade-off curve; both are empty where the method does not train.
    Several requests follow one another in both, their steps counted on; begins: after which step each does but the
    first. localization: None where none was chosen. attacks: None where there were none. readings:
    how the results are shown.
    """

    folder: Path
    config: dict[str, Any]
    about: About
    results: Mapping[str, Mapping[str, Result]]
    aims: Mapping[str, str]
    history: Sequence[Mapping[str, float]]
    curve: Sequence[Mapping[str, float]]
    begins: Sequence[float] = ()
    localization: Localization | None = None
    attacks: Attacks | None = None
    readings: Sequence[Reading] = ()

    @property
    def leaks(self) -> Leaks | None:
        """The leak report; None where nothing was attacked."""
        return self.attacks.leaks if self.attacks else None

    @property
    def models(self) -> list[str]:
        """The models with results, in the order in which they are shown."""
        return [model for model in MODELS if model in self.results]

    @property
    def localizer(self) -> str:
        """The localizer's name: as it was chosen, else its class; "" where there is no localization."""
        return (self.about.choices.get("localize") or self.localization.localizer) if self.localization else ""

    @property
    def method(self) -> str:
        """The unlearning method's name: as it was chosen, else its class."""
        return self.about.choices.get("method") or class_name(self.config.get("method")) or "unlearning"

    @property
    def title(self) -> str:
        """What was done, in a few words."""
        made = self.method if self.results else "attack" if self.attacks else self.localizer
        return f"{made} on {self.about.task}"

    def result(self, model: str, key: str) -> Result | None:
        """One model's result; None where it was not computed."""
        return self.results.get(model, {}).get(key)

    def generations(self, model: str) -> pd.DataFrame:
        """Return the model's answers (see the scorer's table), without rows where none were saved."""
        path = _scores(self.folder, model, "generations")
        return columns(path, GENERATIONS) if path.exists() else pd.DataFrame(columns=GENERATIONS)


@dataclass(frozen=True)
class _Row:
    name: str
    probe: str
    value: Number
    low: Number
    high: Number
    n: int
    note: str = ""


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises UserError where it is none, is unfinished, or where a file is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        guess = nearest(folder.name, (f.name for f in folder.parent.glob("*/"))) if folder.parent.is_dir() else None
        raise UserError(f"there is no folder {folder}{f', did you mean {folder.parent / guess}?' if guess else ''}")
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder} is not a run folder: it has no config.yaml")
    mask_alone = (folder / LOCALIZE).is_dir() and not (folder / UNLEARNED).exists()
    attacked = (folder / ATTACKS / LEAK).exists()
    scored = (folder / "metrics.json").exists() or not (mask_alone or attacked)
    for name in ("metrics.json", "run.json") if scored else ("run.json",):
        if not (folder / name).exists():
            raise UserError(f"the run in {folder} is not finished (there is no {name}): run it again to go on with it")
    rows = read_json(folder / "metrics.json", dict[str, list[_Row]]) if scored else {}
    for model in ("original", "unlearned") if scored else ():
        if model not in rows:
            raise UserError(f"{folder / 'metrics.json'} has no results of the {model} model")
    results = {
        model: {r.key: r for r in (Result(x.name, x.probe, x.value, x.low, x.high, x.n, note=x.note) for x in found)}
        for model, found in rows.items()
    }
    history, curve, begins = _logs(folder)
    probes = dict.fromkeys(r.probe for found in results.values() for r in found.values() if r.probe)
    return Run(
        folder=folder,
        config=read_yaml(folder / "config.yaml"),
        about=read_json(folder / "run.json", About),
        results=results,
        aims=_roles(folder, probes),
        history=history,
        curve=curve,
        begins=begins,
        localization=read_localization(folder / LOCALIZE),
        attacks=read_attacks(folder / ATTACKS) if attacked else None,
        readings=_readings(folder / READINGS),
    )


def class_name(node: Any) -> str:
    """Return the class that a config node is made into ("NPO"), "" where it has none."""
    return str(node["_target_"]).rpartition(".")[2] if isinstance(node, Mapping) and "_target_" in node else ""


def _logs(folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]], list[float]]:
    """Return history, curve and begins (see Run): the logs of all requests, one after the other."""
    earlier = sorted((folder / REQUESTS).glob(f"*/{UNLEARNED}"), key=lambda path: int(path.parent.name))
    history: list[dict[str, float]] = []
    curve: list[dict[str, float]] = []
    begins: list[float] = []
    done = 0.0
    for number, place in enumerate([*earlier, folder / UNLEARNED]):
        rows, points = _log(place / "history.json"), _log(place / "curve.json")
        if number:
            begins.append(done)
            points = [point for point in points if point["step"] > 0]  # where the one before ended
        history += [{**row, "step": done + row["step"]} for row in rows]
        curve += [{**point, "step": done + point["step"]} for point in points]
        done = max((row["step"] for row in (*history, *curve)), default=done)
    return history, curve, begins


def _log(path: Path) -> list[dict[str, float]]:
    """Rows of numbers in the order of their steps; none where there is no such file."""
    rows = read_json(path, list[dict[str, Number]]) if path.exists() else []
    for i, row in enumerate(rows):
        if "step" not in row:
            raise UserError(f"{path} is damaged: row {i} has no step")
    return sorted(rows, key=lambda row: row["step"])


def _readings(path: Path) -> tuple[Reading, ...]:
    return tuple(read_json(path, list[Reading])) if path.exists() else ()


def _roles(folder: Path, probes: Iterable[str]) -> dict[str, str]:
    """Return the aim of each probe set, from the original's score table; a set that is not in it goes by its name."""
    aims = {probe: probe if probe in ("forget", "retain", "holdout") else "utility" for probe in probes}
    path = _scores(folder, "original", "tokens")
    if path.exists():
        table = columns(path, ["probe", "aim"]).drop_duplicates()
        aims |= dict(zip(table["probe"], table["aim"], strict=True))
    return aims


def _scores(folder: Path, model: str, table: str) -> Path:
    return folder / "scores" / model / f"{table}.parquet"
