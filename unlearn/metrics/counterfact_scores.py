"""ROME's scores of an edit: whether the new answer has come, also in other wordings, and only where it should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.metrics.base import EDITING, Reading, Result
from unlearn.metrics.columns import losses
from unlearn.metrics.intervals import DIFFERENCE, basis, harmonic_mean_interval
from unlearn.metrics.statistics import harmonic_mean
from unlearn.score.table import Tables, probe_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from unlearn.data.task import Role

# Of each score its probe set, and which answer should be the likelier: the new one (1) or the true one (-1).
SETS = {"efficacy": ("forget", 1), "paraphrase": ("paraphrase", 1), "neighbourhood": ("neighbourhood", -1)}


@dataclass(frozen=True)
class CounterFactScores:
    """ES, PS, NS and S, and the magnitudes EM, PM, NM (ROME, Meng et al. 2022, arXiv 2202.05262).

    P(x) = exp(-mean token loss of x), over the whole answer. ES, PS: share of the prompts, and of their paraphrases,
    with P(new) > P(true), EM and PM the mean of P(new) - P(true). NS: share of the neighbours' prompts with
    P(true) > P(new), NM the mean of P(true) - P(new). Each is averaged over the prompts of a record (a cluster) and
    then over records. S is the harmonic mean of ES, PS and NS; its interval resamples records.

    In the probe sets `forget`, `paraphrase` and `neighbourhood` the answer is the true one, the perturbed answer the
    new one. No results where a dataset has no neighbours.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "counterfact_scores",
            "ROME score S",
            EDITING,
            ("",),
            "Harmonic mean of efficacy, paraphrase and neighbourhood score. Should come up to 1.",
            "up",
        ),
        Reading(
            "efficacy_score",
            "Efficacy score",
            EDITING,
            ("",),
            "Share of edited facts whose new answer is likelier than the true one. Should come up to 1.",
            "up",
        ),
        Reading(
            "paraphrase_score",
            "Paraphrase score",
            EDITING,
            ("",),
            "The same where the fact is asked in other words: whether the edit generalises. Should come up to 1.",
            "up",
        ),
        Reading(
            "neighbourhood_score",
            "Neighbourhood score",
            EDITING,
            ("",),
            "Share of like subjects, not edited, whose true answer is still the likelier. Should stay at the "
            "original's.",
            "up",
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        import pandas as pd

        if "neighbourhood" not in probe_names(tables):
            return []
        gaps = {name: sign * _new_minus_true(tables, probe) for name, (probe, sign) in SETS.items()}
        shares = {name: _by_record((gap > 0).where(gap.notna()).astype(float)) for name, gap in gaps.items()}
        results = [_overall(pd.DataFrame(shares))]
        for name in SETS:
            results.append(Result.mean(f"{name}_score", "", shares[name].to_numpy()))
            results.append(Result.mean(f"{name}_magnitude", "", _by_record(gaps[name]).to_numpy(), bounds=DIFFERENCE))
        return results


def _new_minus_true(tables: Tables, probe: str) -> pd.Series:
    """Return P(new) - P(true) of each prompt of a probe set (index: the record's name)."""
    import pandas as pd

    loss = losses(tables, [probe])
    answers = tables["tokens"][(tables["tokens"]["probe"] == probe) & (tables["tokens"]["kind"] == "answer")]
    gap = np.exp(-loss["perturbed"].to_numpy()) - np.exp(-loss["answer"].to_numpy())
    return pd.Series(gap, index=answers["cluster"].to_numpy(), dtype=float)


def _by_record(values: pd.Series) -> pd.Series:
    return values.groupby(level=0, sort=False).mean()


def _overall(shares: pd.DataFrame) -> Result:
    """Return S, from the three shares of each record."""
    for name in shares:
        if shares[name].isna().all():
            return Result.undefined("counterfact_scores", "", f"no {name} prompts")
    columns = [shares[name].to_numpy() for name in shares]
    value = harmonic_mean(np.array([np.nanmean(column) for column in columns]))
    n, ends = len(shares), harmonic_mean_interval([columns])
    return Result("counterfact_scores", "", float(value), *ends, n, note=basis(np.arange(n)))
