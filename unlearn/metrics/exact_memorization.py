"""Exact memorization: how much of an answer the model would say word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import MEMORISATION, Reading, Result
from unlearn.metrics.columns import clusters, row_means, without_eos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class ExactMemorization:
    """Share of the answer's tokens (EOS left out) that are the most probable ones given the true text before them.

    Tirumala et al. 2022 (arXiv 2205.10770), as OpenUnlearning has it. One result per probe set, mean over its items.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "exact_memorization",
            "Exact memorisation",
            MEMORISATION,
            ("forget",),
            "Share of the true answer's tokens that are the model's first choice, given those before.",
            "down",
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        rows = tables["tokens"][tables["tokens"]["kind"] == "answer"]
        return [
            Result.mean("exact_memorization", str(probe), row_means(without_eos(group, "hit")), clusters(group))
            for probe, group in rows.groupby("probe", sort=False)
        ]
