"""A metric of a scorer from outside: it reads that scorer's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import Reading, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class MeanDoubt:
    """How doubtful the model is of how to begin its answers."""

    reads: ClassVar[frozenset[str]] = frozenset({"doubt"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading("mean_doubt", "Doubt", "Doubt", ("forget",), "Entropy (nats) of an answer's first token.", "up"),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the mean entropy of each probe set."""
        return [
            Result.mean("mean_doubt", str(probe), rows["entropy"].to_numpy())
            for probe, rows in tables["doubt"].groupby("probe", sort=False)
        ]
