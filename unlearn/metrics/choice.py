"""Multiple choice: whether the right option is the likeliest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from unlearn.metrics.base import EDITING, FORGETTING, UTILITY, Reading, Result
from unlearn.metrics.columns import clusters

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from unlearn.data.task import Role
    from unlearn.score.table import Tables


@dataclass(frozen=True)
class Choice:
    """Share of probes whose answer has the largest summed log-probability among its options.

    The options are the answer and the perturbed answers, as in MMLU (Hendrycks et al. 2021, arXiv 2009.03300). Those
    that tie share the point.

    One result per probe set marked `normalise`, mean over clusters: the rotations of a question, and whatever else is
    asked about one fact, count once. The note gives the chance level.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "choice",
            "Choice accuracy",
            FORGETTING,
            ("forget", "transfer"),
            "Share of questions of which the true answer is the likeliest option. Chance is one over their "
            "number; should come down.",
            "down",
        ),
        Reading(
            "choice",
            "Choice accuracy",
            EDITING,
            ("injected",),
            "Share of questions of which the injected answer is the likeliest option. Chance is one over their "
            "number; should come up to 1.",
            "up",
        ),
        Reading(
            "choice",
            "Choice accuracy",
            UTILITY,
            ("retain", "utility"),
            "Share of questions of which the true answer is the likeliest option. Chance is one over their "
            "number; should stay at the original's.",
            "up",
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        tokens = tables["tokens"][
            tables["tokens"]["normalise"].astype(bool) & (tables["tokens"]["kind"] != "paraphrase")
        ]
        options = tokens.assign(logp=[logp.sum() for logp in tokens["logp"]])
        return [
            _result(str(probe), rows)
            for probe, rows in options.groupby("probe", sort=False)
            if (rows["kind"] == "perturbed").any()
        ]


def _result(probe: str, options: pd.DataFrame) -> Result:
    """Return that of one probe set; options: a row for each, with its summed log-probability."""
    by_item = options.groupby("item", sort=False)
    best = (options["logp"] == by_item["logp"].transform("max")).astype(float)
    points = best / best.groupby(options["item"]).transform("sum")
    chance = 1 / by_item["logp"].transform("size")
    right = options["kind"] == "answer"
    items = points[right].groupby(clusters(options[right]), sort=False).mean().to_numpy()
    found = Result.mean("choice", probe, items)
    return replace(found, note="; ".join(filter(None, (f"chance {chance[right].mean():.2f}", found.note))))
