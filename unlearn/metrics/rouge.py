"""ROUGE: word overlap between the generated answer and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unlearn.metrics.base import FORGETTING, UTILITY, Reading, Result
from unlearn.metrics.columns import clusters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from unlearn.data.task import Role
    from unlearn.score.table import Tables

READING = (
    Reading(
        "rouge",
        "ROUGE-L recall",
        FORGETTING,
        ("forget",),
        "Share of the true answer's words found in order in what is generated. Should fall to the control model's.",
        "down",
        on_console=True,
        bars=True,
    ),
    Reading(
        "rouge",
        "ROUGE-L recall",
        UTILITY,
        ("retain", "utility"),
        "Words of the true answer in the generated one. Should stay at the original's.",
        "up",
        bars=True,
    ),
)


@dataclass(frozen=True)
class Rouge:
    """ROUGE (Lin 2004, https://aclanthology.org/W04-1013) by Google's rouge_score, with stemming, as in TOFU.

    One result per probe set that was asked, mean over its items.
    """

    variant: Literal["rouge1", "rougeL"] = "rougeL"
    """rouge1: single words; rougeL: the longest common subsequence."""
    statistic: Literal["recall", "f1"] = "recall"
    """recall: the share of the reference's words that are found (TOFU); f1: the f-measure (MUSE)."""
    reference: Literal["answer", "paraphrase"] = "answer"
    """The answer or its paraphrase."""

    reads: ClassVar[frozenset[str]] = frozenset({"generations"})

    @property
    def name(self) -> str:
        """Return "rouge" for rougeL recall; other choices are named in full."""
        kind = "rouge" if (self.variant, self.statistic) == ("rougeL", "recall") else f"{self.variant}_{self.statistic}"
        return kind if self.reference == "answer" else f"{self.reference}_{kind}"

    @property
    def reading(self) -> tuple[Reading, ...]:
        """Return how the metric as it is published is shown; its variants are in the table of all results."""
        return READING if self.name == "rouge" else ()

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        items = {probe: self.items(tables, probe) for probe in tables["generations"]["probe"].unique()}
        return [
            Result.mean(self.name, probe, values, clusters(_asked(tables, probe)))
            for probe, values in items.items()
            if not np.isnan(values).all()
        ]

    def items(self, tables: Tables, probe: str) -> np.ndarray:
        """Return ROUGE of each item of one probe set: [n], nan where it has no such reference."""
        asked = _asked(tables, probe)
        return rouge(asked[self.reference], asked["generation"], self.variant, self.statistic)


def _asked(tables: Tables, probe: str) -> pd.DataFrame:
    return tables["generations"][tables["generations"]["probe"] == probe]


def rouge(references: Iterable[str | None], texts: Iterable[str], variant: str, statistic: str) -> np.ndarray:
    """Return ROUGE of each text against its reference: [n], in [0, 1]; nan where the reference is missing."""
    part = {"recall": "recall", "f1": "fmeasure"}[statistic]
    pairs = zip(references, texts, strict=True)
    return np.array(
        [getattr(_rouge(r, text)[variant], part) if isinstance(r, str) else np.nan for r, text in pairs], dtype=float
    )


@lru_cache(maxsize=1 << 14)  # ROUGE and model utility read the same texts
def _rouge(reference: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = _scorer().score(reference, text)
    return found


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
