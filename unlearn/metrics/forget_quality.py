"""Forget quality: whether the model can be told from one that never saw the forget set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.metrics.base import FORGETTING, Reading, Result
from unlearn.metrics.columns import probe_clusters
from unlearn.metrics.ks import ks_test
from unlearn.metrics.truth_ratio import ratio, right_and_wrong
from unlearn.score.table import Tables, probe_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn.data.task import Role


@dataclass(frozen=True)
class ForgetQuality:
    """p-value of a two-sample KS test between the forget set's truth ratios of the model and of the control model.

    TOFU (Maini et al. 2024, arXiv 2401.06121): near 1 indistinguishable, near 0 told apart; not a logarithm.

    Also gives the test's distance D ("forget_quality_ks"), which does not depend on the number of items as p does, and
    in its note the null band of D: what two models that are alike come up to in 95 of 100 permutations. Neither has an
    interval: alike models have a D of 0, from which every resample of them lies away.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"tokens"})
    reading: ClassVar[tuple[Reading, ...]] = (
        Reading(
            "forget_quality",
            "Forget quality (p)",
            FORGETTING,
            ("",),
            "Chance of a gap this large between the truth ratios of this and the control model, were they alike "
            "(KS test). Near 1: cannot be told apart; below 0.05: can.",
            "up",
            on_console=True,
            axis="forgetting",
            scale="log",
        ),
        Reading(
            "forget_quality_ks",
            "KS distance",
            FORGETTING,
            ("",),
            "That gap itself: the largest between the two distributions of truth ratios. 0: the same, 1: apart; "
            "models that are alike come up to what is said beside it.",
            "down",
        ),
    )

    def __call__(self, tables: Tables, references: Mapping[Role, Tables]) -> list[Result]:
        """Return the results of one model from its tables."""
        control = references.get("control")
        names = ("forget_quality", "forget_quality_ks")
        if control is None:
            return [Result.undefined(name, "", "no control model") for name in names]
        sides = [(ratios(table), probe_clusters(table, probe_names(table, "forget"))) for table in (tables, control)]
        valid = [~np.isnan(r) for r, _ in sides]
        paired = len(valid[0]) == len(valid[1])
        if paired:
            valid = [valid[0] & valid[1]] * 2
        (mine, about), (theirs, their_about) = (
            (r[kept], labels[kept]) for (r, labels), kept in zip(sides, valid, strict=True)
        )
        if not len(mine) or not len(theirs):
            return [Result.undefined(name, "", "no truth ratio of the forget set") for name in names]
        test = ks_test(mine, theirs, about, None if paired else their_about)
        alike = f"alike models: up to {test.band:.2f} in 95 of 100" if test.band > 0 else ""
        none = math.nan, math.nan
        return [
            Result(names[0], "", test.p, *none, len(mine)),
            Result(names[1], "", test.distance, *none, len(mine), note=alike),
        ]


def ratios(tables: Tables) -> np.ndarray:
    """Return the truth ratio r of every forget item: [n], nan where there are no perturbed answers."""
    return ratio(*right_and_wrong(tables, probe_names(tables, "forget")))
