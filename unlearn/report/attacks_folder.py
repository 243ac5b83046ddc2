"""What the attacks left in a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn.leak.leak_row import NONE
from unlearn.leak.leak_table import Leaks
from unlearn.leak.record import AttackedRole, AttackRun
from unlearn.leak.tables import LEAK, load_leaks
from unlearn.runtime.read import checked, read_json

ATTACKS = "attacks"  # the folder of the leak report and of what each attack found


@dataclass(frozen=True)
class Asked:
    """A forget item; side: "attacker_items" are the attacker's, "held_out_items" count. answer: what is to be shown."""

    side: str
    index: int
    cluster: str
    question: str
    answer: str


@dataclass(frozen=True)
class _Judged:
    """What leak.json says of how the report was made."""

    answer_metric: str
    seeds: tuple[int, ...]
    attacks: dict[str, Any]
    settings: Any
    models: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attacks(_Judged):
    """The attacks of a run: the leak report, how it was made, and what each attack found.

    answer_metric: how an answer counted. attacks, settings: how they were made and scored. models: the folders of those
    that were attacked. numbers: by attack, what several models gave together.
    """

    leaks: Leaks
    folder: Path

    @property
    def names(self) -> list[str]:
        """The attacks, the one without first."""
        return [NONE, *self.attacks]

    @property
    def scope(self) -> str:
        """What two reports must share for their leaks to be comparable."""
        return json.dumps([self.leaks.baseline, self.answer_metric, self.attacks, self.settings])

    def run_of(self, name: str, role: AttackedRole) -> AttackRun | None:
        """Return the run of an attack on a model; None where it was not made there."""
        folder = self.folder / name / role
        return AttackRun.load(folder) if folder.is_dir() else None

    def items(self, side: str = "held_out_items") -> list[Asked]:
        """Return the forget items of a side, the scored ones in the order of the outcomes' K."""
        return [item for item in read_json(self.folder / "items.json", list[Asked]) if item.side == side]


def read_attacks(folder: Path) -> Attacks:
    """Read what the attack stage left in a run's folder; UserError where it is missing or damaged."""
    leaks, about = load_leaks(folder / LEAK)
    return Attacks(**vars(checked(about, _Judged, folder / LEAK)), leaks=leaks, folder=folder)
