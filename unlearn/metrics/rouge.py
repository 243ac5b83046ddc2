"""ROUGE: word overlap between the generated answer and the reference."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unlearn.data.words import foreign, words
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

    Words outside the Latin script, which it leaves out, count as they are; where a script has no spaces, characters.

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
    """Return ROUGE of each text against its reference: [n], in [0, 1]; nan where the reference has no words."""
    part = {"recall": "recall", "f1": "fmeasure"}[statistic]
    pairs = zip(references, texts, strict=True)
    found = [_rouge(r, text) if isinstance(r, str) else None for r, text in pairs]
    return np.array([getattr(scores[variant], part) if scores else np.nan for scores in found], dtype=float)


@lru_cache(maxsize=1 << 14)  # ROUGE and model utility read the same texts
def _rouge(reference: str, text: str) -> dict[str, Any] | None:
    for scorer, tokens in _scorers():
        if tokens.tokenize(reference):
            found: dict[str, Any] = scorer.score(reference, text)
            return found
    return None


class _EveryScript:
    """The tokens of rouge_score, and the words of other scripts, which it leaves out."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self.latin = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        pieces = foreign(unicodedata.normalize("NFC", text))
        return [word for piece, other in pieces for word in (words(piece) if other else self.latin.tokenize(piece))]


class _Letters:
    """Words as they are: for references of accented letters alone, of which rouge_score leaves nothing."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@lru_cache(maxsize=1)
def _scorers() -> list[tuple[Any, Any]]:
    from rouge_score.rouge_scorer import RougeScorer

    return [(RougeScorer(["rouge1", "rougeL"], tokenizer=tokens), tokens) for tokens in (_EveryScript(), _Letters())]
