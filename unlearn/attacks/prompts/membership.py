"""Membership inference: whether forget rows can be told apart from rows that no model ever saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le, MinLen

from unlearn.attacks.base import MEMBERSHIP, AttackResult, AttackSetting, Inapplicable, Outcome, Threat
from unlearn.data.task import ProbeSet, Question, Task
from unlearn.models.subject import References, Subject
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from unlearn.models.base import RunSetting
    from unlearn.score.base import Scorer
    from unlearn.score.table import Tables

Signal = Literal["loss", "zlib", "min_k", "min_k_plus_plus", "gradnorm", "reference"]
Sides = tuple[np.ndarray, np.ndarray]  # of the forget and of the holdout rows
REFERENCE: Literal["reference"] = "reference"
PRIVLEAK, PRIVLEAK_K = "privleak", 0.4
DRAWS = 15  # of the holdout rows: a multiple of the usual numbers of seeds, 1, 3 and 5


@dataclass(frozen=True)
class Membership:
    """Tell held-out forget rows (members) from the holdout rows, which no model saw.

    They are told apart by a score that is high for rows that the model does not know. K of a forget row = share of
    holdout rows that score higher (ties half), so that the mean of K is the AUC: 1, all forget rows are better known
    than any holdout row; 0.5, they are alike; below, they are known by how badly the model does on them. The report
    resamples forget rows; for its interval to count the holdout rows as well, each of the attack's DRAWS "seeds" has
    its own resample of them, the same for every model.

    The table `membership` has a row for each signal and row of text, for `membership_gap`; besides the signals it has
    "privleak", min_k at 0.4.
    """

    files: ClassVar[tuple[str, ...]] = ("against",)

    signals: Annotated[tuple[Signal, ...], MinLen(1)] = (
        *("loss", "zlib", "min_k", "min_k_plus_plus", "gradnorm"),
        REFERENCE,
    )
    """What rows are told apart by; gradnorm needs a backward pass for each row.

    They are loss (mean token loss; Yeom et al. 2018, arXiv 1709.01604), zlib (over the bytes of the compressed text)
    and reference (minus the loss of a model that never saw the forget rows; both Carlini et al. 2021, arXiv
    2012.07805), min_k and min_k_plus_plus (the least likely share k of tokens; Shi et al. 2024, arXiv 2310.16789; Zhang
    et al. 2024, arXiv 2404.02936), gradnorm (norm of the row's gradient).
    """
    k: Annotated[float, Gt(0), Le(1)] = 0.2
    """Share of the least likely tokens that min_k reads; PrivLeak always takes 0.4."""
    against: str | None = None
    """Hub id or folder of a model that never saw the forget rows, for "reference"; None: the control, if any."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "membership"
    reference: ClassVar[str] = "arXiv 2310.16789, 2404.02936, 2407.06460"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "control"})

    def __post_init__(self) -> None:
        if self.against and REFERENCE not in self.signals:
            raise ValueError(f"against is the model of the signal '{REFERENCE}', which signals leaves out")

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; UserError where the model to compare with is not there."""
        from unlearn.models.base import check_local

        check_local("attack.mia.against", self.against)

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each signal and draw.

        Inapplicable without a holdout set, and where reference is the only signal and there is no model for it.
        """
        import pandas as pd

        from unlearn.metrics.intervals import auc_interval
        from unlearn.metrics.statistics import auc

        held = [probe for s in setting.task.probes if s.aim == "holdout" for probe in s.probes]
        if not held:
            raise Inapplicable(f"dataset '{setting.task.name}' has no holdout set: no rows that no model saw")
        found = self._signals(subject, setting, references, held)
        if not found.keys() - {PRIVLEAK}:
            raise Inapplicable("there is no model to compare with: no control model, and no attack.mia.against")
        about = {
            role: np.array([probe.cluster or f"{role} {i}" for i, probe in enumerate(probes)])
            for role, probes in (("forget", setting.questions), ("holdout", held))
        }
        outcomes, rows = [], []
        numbers: dict[str, float] = {}
        for name, (members, others) in found.items():
            rows += [
                {"signal": name, "role": role, "row": i, "about": about[role][i], "score": score}
                for role, scores in (("forget", members), ("holdout", others))
                for i, score in enumerate(scores)
            ]
            if name == PRIVLEAK:
                continue
            drawn = [placements(members, others[draw]) for draw in balanced(len(others))]
            outcomes += [Outcome(name, known, seed=i) for i, known in enumerate(drawn)]
            there = ~np.isnan(members), ~np.isnan(others)
            sides = members[there[0]], others[there[1]]
            low, high = auc_interval(*sides, about["forget"][there[0]], about["holdout"][there[1]])
            numbers |= {f"{name}_auc": auc(*sides), f"{name}_auc_low": low, f"{name}_auc_high": high}
        return AttackResult(
            outcomes,
            f"{len(held)} holdout rows",
            "1 text a row",
            MEMBERSHIP,
            numbers,
            {"membership": _explained(pd.DataFrame(rows), found)},
            chance=0.5,
        )

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Return `membership_gap`; nothing without a control model."""
        if control is None:
            return {}
        return membership_gap(unlearned.tables["membership"].frame, control.tables["membership"].frame)

    def _signals(
        self, subject: Subject, setting: AttackSetting, references: References, held: list[Question]
    ) -> Mapping[str, Sides]:
        """Return each signal of the forget and of the holdout rows."""
        from unlearn.metrics.mia_gradnorm import MiaGradnorm
        from unlearn.metrics.mia_loss import MiaLoss
        from unlearn.metrics.mia_min_k import MiaMinK
        from unlearn.metrics.mia_min_k_plus_plus import MiaMinKPlusPlus
        from unlearn.metrics.mia_reference import MiaReference
        from unlearn.metrics.mia_zlib import MiaZlib

        scores = self._scores(subject, setting, held, "gradnorm" in self.signals)
        metrics: dict[str, Any] = {
            "loss": MiaLoss(),
            "zlib": MiaZlib(),
            "min_k": MiaMinK(self.k),
            "min_k_plus_plus": MiaMinKPlusPlus(self.k),
            "gradnorm": MiaGradnorm(),
            PRIVLEAK: MiaMinK(PRIVLEAK_K),
        }
        found: dict[str, Sides] = {
            name: (metrics[name].rows(scores, "forget"), metrics[name].rows(scores, "holdout"))
            for name in (*self.signals, PRIVLEAK)
            if name != REFERENCE
        }
        if REFERENCE in self.signals and (other := self._other(subject, references)):
            control, reference = self._scores(other, setting, held, False), MiaReference()
            found[REFERENCE] = (
                reference.rows(scores, control, "forget"),
                reference.rows(scores, control, "holdout"),
            )
        return found

    def _other(self, subject: Subject, references: References) -> Subject | None:
        """Return the model of the reference signal in the subject's place; None where there is none."""
        if self.against:
            from unlearn.models.loading import load_on

            return replace(subject, module=load_on(self.against, subject.module.device))
        return references.control()

    @staticmethod
    def _scores(subject: Subject, setting: AttackSetting, held: list[Question], gradients: bool) -> Tables:
        """Return likelihoods of the answers alone, one text a row."""
        from unlearn.score.gradients import Gradients
        from unlearn.score.tokens import Tokens

        def bare(probes: Sequence[Question]) -> tuple[Question, ...]:
            return tuple(replace(probe, paraphrased_answer=None, perturbed_answers=()) for probe in probes)

        sets = ProbeSet("forget", "forget", bare(setting.questions)), ProbeSet("holdout", "holdout", bare(held))
        task, alone = replace(setting.task, probes=sets), References(lambda: subject, lambda: None)
        scorers: list[Scorer] = [Tokens(), Gradients()] if gradients else [Tokens()]
        return {name: table.frame for scorer in scorers for name, table in scorer.score(subject, task, alone).items()}


def balanced(n: int, draws: int = DRAWS) -> np.ndarray:
    """Return draws of n rows with replacement, [draws, n].

    Each row is drawn `draws` times in all, so that the mean over the draws is that over the rows (balanced bootstrap:
    Davison, Hinkley and Schechtman 1986).
    """
    return np.random.default_rng(0).permutation(np.tile(np.arange(n), draws)).reshape(draws, n)


def placements(members: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share of the others above each member, equal ones counted half: [members], nan where it is nan.

    Its mean is the AUC of telling the others by a high value.
    """
    ordered = np.sort(others[~np.isnan(others)])
    below, up_to = (np.searchsorted(ordered, members, side) for side in ("left", "right"))
    return np.where(np.isnan(members), np.nan, 1 - (below + up_to) / 2 / max(len(ordered), 1))


def membership_gap(model: pd.DataFrame, control: pd.DataFrame) -> dict[str, float]:
    """Return how far a model's signals are from those of the control, from their tables `membership`.

    For each signal: gap = AUC - AUC of the control, its 95 % interval (gap_low, gap_high), what the rows of both sets
    are about resampled, alike for both models, and detectable: 1 where the interval is clear of 0 on either side, for
    unlearning is given away by rows that are known too badly as well. privleak, with its interval: 100 ((1 - AUC) -
    (1 - AUC of the control)) / (1 - AUC of the control), by min_k at 0.4 (MUSE, Shi et al. 2024, arXiv 2407.06460): 0
    is ideal.
    """
    from unlearn.metrics.intervals import interval
    from unlearn.metrics.privleak import privleak
    from unlearn.metrics.statistics import auc_draws

    found: dict[str, float] = {}
    for name, mine in model.groupby("signal", sort=False):
        sides = [_sides(table[table["signal"] == name]) for table in (mine, control)]
        there = [~np.isnan(a) & ~np.isnan(b) for a, b in zip(*sides, strict=True)]
        about = [labels[kept] for labels, kept in zip(_sides(mine, "about"), there, strict=True)]
        sides = [(members[there[0]], others[there[1]]) for members, others in sides]
        compare = privleak if name == PRIVLEAK else np.subtract

        def gap(counts: Sequence[np.ndarray], sides: list[Sides] = sides, compare: Any = compare) -> np.ndarray:
            found: np.ndarray = compare(*(auc_draws(*rows, *counts) for rows in sides))
            return found

        low, high = interval(gap, about)
        label = PRIVLEAK if name == PRIVLEAK else f"{name}_gap"
        found |= {label: float(gap([np.ones((1, len(rows))) for rows in sides[0]])[0])}
        found |= {f"{label}_low": low, f"{label}_high": high}
        if name != PRIVLEAK:
            found[f"{name}_detectable"] = float(low > 0 or high < 0)
    return found


def _sides(table: pd.DataFrame, column: str = "score") -> Sides:
    forget, holdout = (table.loc[table["role"] == role, column].to_numpy() for role in ("forget", "holdout"))
    return forget, holdout


def _explained(table: pd.DataFrame, found: Mapping[str, Sides]) -> Explained:
    """Return the table with the share of holdout rows above each forget row, whose mean is the signal's AUC."""
    words = (
        "How well each signal tells forget rows from rows that no model saw. Dotted: not at all. An unlearned model on "
        "either side of the model that never learned gives away that the rows were there, or were removed."
    )
    above = [
        place if signal != PRIVLEAK else np.nan
        for signal, (members, others) in found.items()
        for place in (*placements(members, others), *np.full(len(others), np.nan))
    ]
    chart = Chart("bar", "signal", ("above",), levels={"above": 0.5}, words={"above": "AUC"})
    return Explained(table.assign(above=above), "Membership", words, chart)
