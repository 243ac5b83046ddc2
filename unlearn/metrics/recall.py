"""Recall: whether the generated answer contains the fact itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.data.words import contains
from unlearn.metrics.base import EDITING, FORGETTING, UTILITY, Reading, Result
from unlearn.metrics.columns import clusters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class Recall:
    """Share of questions whose generated answer contains the bare value ("Lisbon") as whole words, whatever the case.

    Stricter and easier to read than ROUGE, which also counts the words around the fact. One result per probe set whose
    probes have values.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"generations"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "recall",
            "Fact recall",
            FORGETTING,
            ("forget", "transfer"),
            "Share of generated answers that contain the bare fact. Should come down to the control model's.",
            "down",
            bars=True,
        ),
        Reading(
            "recall",
            "Fact recall",
            EDITING,
            ("injected",),
            "Share of generated answers that contain the injected fact. Should come up to 1.",
            "up",
            bars=True,
        ),
        Reading(
            "recall",
            "Fact recall",
            UTILITY,
            ("retain", "utility"),
            "Share of answers that contain the bare fact. Should stay at the original's.",
            "up",
            bars=True,
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        known = np.array([isinstance(value, str) for value in tables["generations"]["value"]], dtype=bool)
        asked = tables["generations"][known]
        return [
            Result.mean(
                "recall",
                str(probe),
                np.array([*map(contains, rows["generation"], rows["value"])], dtype=float),
                clusters(rows),
            )
            for probe, rows in asked.groupby("probe", sort=False)
        ]
