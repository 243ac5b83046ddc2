"""The tables that scoring makes and metrics read. Everything a metric needs is in them; no metric needs a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TOKENS = [
    "probe",
    "aim",
    "normalise",
    "item",
    "cluster",
    "kind",
    "choice",
    "text",
    "eos",
    "logp",
    "hit",
    "mean",
    "var",
    "zlib",
]
GENERATIONS = ["probe", "aim", "item", "cluster", "question", "answer", "paraphrase", "value", "generation"]
GRADIENTS = ["probe", "aim", "item", "cluster", "gradnorm"]


@dataclass(frozen=True)
class Scores:
    """What one model said to all probes.

    tokens: a row per candidate answer. probe, role, normalise, item (index in its probe set), cluster; kind: "answer",
        "paraphrase" or "perturbed"; choice: index among the perturbed answers (0 otherwise); text: the candidate; eos:
        whether its last labelled token is EOS; logp: float32 array [n] of the labelled tokens' log-probabilities
        (nats), EOS included; hit: bool array [n], whether the token was the most probable one; mean, var: float32
        arrays [n], mean and variance of log p under the model's own next-token distribution; zlib: bytes of the
        compressed candidate.
    generations: a row per probe asked of the sets that are generated from: the greedy answer beside the reference
        answer, its paraphrase and bare value.
    gradients: a row per probe of the forget and holdout sets with its gradient norm; empty where not asked for.
    """

    tokens: pd.DataFrame
    generations: pd.DataFrame
    gradients: pd.DataFrame

    def save(self, folder: Path) -> None:
        """Write the three tables as Parquet files into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tokens", "generations", "gradients"):
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)

    @classmethod
    def load(cls, folder: Path) -> Scores:
        """Read what `save` wrote; UserError where a table is missing or unreadable."""
        import pandas as pd

        tables = {}
        for name, columns in (("tokens", TOKENS), ("generations", GENERATIONS), ("gradients", GRADIENTS)):
            path = folder / f"{name}.parquet"
            try:
                tables[name] = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise UserError(f"cannot read the score table {path}: {error}") from error
            if missing := set(columns) - set(tables[name].columns):
                raise UserError(f"the score table {path} lacks the column(s) {', '.join(sorted(missing))}")
        return cls(**tables)

    def probe_names(self, *aims: str) -> list[str]:
        """Names of the probe sets with one of those roles (of all where none is named), in table order."""
        rows = self.tokens[self.tokens["aim"].isin(aims)] if aims else self.tokens
        return list(rows["probe"].unique())
