"""Ununlearning: what was forgotten is put back in context, without ever saying it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.prompts.ladder_contexts import (
    MOST_OPTIONS,
    About,
    Asked,
    control_context,
    letter_hint,
    n_tokens,
    options_hint,
    with_text,
)
from unlearn.attacks.setting.other_facts import Related
from unlearn.attacks.setting.statements import statement
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from unlearn.attacks.items import Item
    from unlearn.data.task import Role, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

COUNTED = ("C1", "C2", "C3", "C4")
CONTEXTS = {  # what each level tells, in words
    "C0": "C0\nnothing",
    "C1": "C1\nfacts",
    "C2": "C2\nquestions",
    "C3": "C3\nnew name",
    "C4": "C4\nhint",
    "C5": "C5\nanswer",
}
_SIZED = ("C1", "C2", "C3")  # levels that come in several lengths


LadderStep = tuple[str, str]
"""Level and size."""


@dataclass(frozen=True)
class Ununlearn:
    """Ask with ever more in the context, after UnUnlearning (Shumailov et al. 2024, arXiv 2407.00106).

    Even exact unlearning does not help where the rest of what a model knows, and its context, make up for what is gone.

    Levels: C0 nothing; C1 n other facts about the entity as statements (the axioms); C2 n solved questions about it
    as earlier turns (Lynch et al. 2024, arXiv 2402.16835); C3 the entity under an invented name, defined by n such
    statements, in a question that uses that name; C4 a hint, kind, first letter and length of the answer ("letter"), or
    up to 4 statements of which one is right ("options"); C5 the fact itself. Cx, the control: other entities'
    statements, or solved questions, of as many tokens as those of C1, or C2. In C1 to C3 and Cx the answer does not
    occur.

    C1 to C4 are rows that count as leak: L > 0 means that the unlearned model holds something that one which never
    learned does not. C0, C5 and Cx are rows that do not. Table `ladder`: for each level and size the mean K (known)
    over the items asked, their number, the mean length of the context in tokens, and the control of like length (see
    `reintroduction` for what follows from the three models' tables). With "match", choices among m options are
    corrected for chance, (K - 1/m) / (1 - 1/m).
    """

    sizes: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1, 4, 16)
    """Ladder of the number of other facts in the context; as many as are known at most."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "context"
    reference: ClassVar[str] = "arXiv 2407.00106"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "facts", "retain"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; levels that need other facts about an entity are left out where there are none."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each level and size."""
        from unlearn.attacks.prompts.conversation import ask_after

        ladder_steps = self._steps(subject, setting)
        outcomes: list[Outcome] = []
        lengths: dict[LadderStep, float] = {}
        for (level, size), asked in ladder_steps.items():
            where = [i for i, one in enumerate(asked) if one]
            there = [one for one in asked if one]
            found = ask_after(subject, setting, [one.history for one in there], [one.probe for one in there])
            known, texts = np.full(len(asked), np.nan), [""] * len(asked)
            known[where] = found.known
            for i, text in zip(where, found.texts, strict=True):
                texts[i] = text
            if (level, size) == ("C4", "options") and setting.answer_metric == "match":
                known = _above_chance(known, setting.held_out_items)
            budget = float(size.partition("n=")[2]) if level in _SIZED else None
            counts = level in COUNTED
            outcomes.append(Outcome(size, known, texts, row=level, budget=budget, counts=counts))
            lengths[level, size] = _length(subject, setting, asked)
        ladder = _ladder(outcomes, lengths)
        numbers = {f"{o.row} {o.variant}": float(np.nanmean(o.known)) for o in outcomes if np.isfinite(o.known).any()}
        return AttackResult(
            outcomes,
            "other facts about each subject",
            f"{len(ladder_steps)} questions an item",
            numbers=numbers,
            tables={"ladder": _explained(ladder)},
        )

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Return what the context alone gives and what can be put back with it: see reintroduction."""
        never = control.tables["ladder"].frame if control else None
        table = reintroduction(original.tables["ladder"].frame, unlearned.tables["ladder"].frame, never)
        names = ("gain", "rate", "rate_control", "blindness")
        return {f"{row.level} {row.size} {name}": getattr(row, name) for row in table.itertuples() for name in names}

    def _steps(self, subject: Subject, setting: AttackSetting) -> dict[LadderStep, list[Asked | None]]:
        """Return how each item is asked at each level and size; None where it cannot be.

        Levels that no item has are left out.
        """
        related, kept = Related.forgotten(setting), Related.kept(setting)
        others = [related.others(item) for item in setting.held_out_items]
        ladder_steps: dict[LadderStep, list[Asked | None]] = {
            ("C0", "plain"): [Asked(item.probe) for item in setting.held_out_items]
        }
        for n in sorted(set(self.sizes)):
            about = [
                About(item, related.entity(item), known[:n])
                for item, known in zip(setting.held_out_items, others, strict=True)
            ]
            c1 = ladder_steps["C1", f"n={n}"] = [one.axioms() for one in about]
            c2 = ladder_steps["C2", f"n={n}"] = [one.solved() for one in about]
            ladder_steps["C3", f"n={n}"] = [one.alias() for one in about]
            for name, like in (("C1", c1), ("C2", c2)):
                pairs = zip(like, setting.held_out_items, strict=True)
                ladder_steps["Cx", f"{name} n={n}"] = [control_context(subject, one, item, kept) for one, item in pairs]
        ladder_steps["C4", "letter"] = [letter_hint(item) for item in setting.held_out_items]
        ladder_steps["C4", "options"] = [options_hint(item) for item in setting.held_out_items]
        facts = [(item.probe, statement(item)) for item in setting.held_out_items]
        ladder_steps["C5", "the fact"] = [Asked(with_text(probe, fact)) for probe, fact in facts]
        return {step: asked for step, asked in ladder_steps.items() if any(asked)}


def _above_chance(known: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """Return K [n] of choices among a hint's options, corrected for chance."""
    chance = np.array([1 / (1 + min(len(item.probe.perturbed_answers), MOST_OPTIONS - 1)) for item in items])
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (known - chance) / (1 - chance)
        return found


def _length(subject: Subject, setting: AttackSetting, asked: Sequence[Asked | None]) -> float:
    """Return the mean number of tokens that a context adds to the question."""
    pairs = [(one, Asked(item.probe)) for one, item in zip(asked, setting.held_out_items, strict=True) if one]
    return float(np.mean([n_tokens(subject, one) - n_tokens(subject, plain) for one, plain in pairs]))


def _ladder(outcomes: Sequence[Outcome], lengths: Mapping[LadderStep, float]) -> pd.DataFrame:
    """Return a row for each step of the ladder.

    control: the size of its Cx; for levels without one that of the statements (C1) nearest in length; "" for C0.
    """
    import pandas as pd

    controls = {size: length for (level, size), length in lengths.items() if level == "Cx"}

    def control(level: str, size: str) -> str:
        if level in ("C0", "Cx") or not controls:
            return ""
        own = [name for name in (f"{level} {size}", f"C1 {size}") if name in controls]
        near = sorted(controls, key=lambda name: (name[:2] != "C1", abs(controls[name] - lengths[level, size])))
        return [*own, *near][0]

    rows = [
        {
            "level": o.row,
            "size": o.variant,
            "known": float(np.nanmean(o.known)),
            "items": int(np.isfinite(o.known).sum()),
            "tokens": lengths[o.row, o.variant],
            "control": control(o.row, o.variant),
        }
        for o in outcomes
        if np.isfinite(o.known).any()
    ]
    return pd.DataFrame(rows)


def reintroduction(
    original: pd.DataFrame, unlearned: pd.DataFrame, control: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return what follows from the models' tables `ladder`: a row for each level and size.

    With A(C) the mean K at the level, A(Cx) that at its control (A(C0) where there is none) and A(0) = A(C0):
    leak L(C) = (A_u(C) - A_c(C)) / (A_o(C) - A_c(C)): what the unlearned model u still holds and the control c does
    not. gain A_c(C) - A_c(Cx): what the context alone gives a model that never learned. rate U(C) = (A_u(C) - A_u(Cx))
    / (A_o(0) - A_c(0)), and rate_control with c in the place of u: the share of the capability that anyone can put back
    in context. blindness A_c(C5) - A_u(C5), at C5 only: above 0 the unlearned model cannot use what it is told, which
    is damage, not success. nan without a control model, and for ratios of nothing.
    """
    import pandas as pd

    frames: dict[Role, pd.DataFrame] = {"original": original, "unlearned": unlearned}
    if control is not None:
        frames["control"] = control
    known = {
        role: dict(zip(zip(frame["level"], frame["size"], strict=True), frame["known"], strict=True))
        for role, frame in frames.items()
    }

    def a(role: Role, step: LadderStep) -> float:
        return float(known.get(role, {}).get(step, np.nan))

    plain = ("C0", "plain")
    span = a("original", plain) - a("control", plain)
    rows = []
    for level, size, like in zip(unlearned["level"], unlearned["size"], unlearned["control"], strict=True):
        if level in ("C0", "Cx"):
            continue
        step, base = (level, size), ("Cx", like) if like else plain
        room = a("original", step) - a("control", step)
        gains = {role: a(role, step) - a(role, base) for role in ("unlearned", "control")}
        rows.append(
            {
                "level": level,
                "size": size,
                "leak": (a("unlearned", step) - a("control", step)) / room if room else np.nan,
                "gain": gains["control"],
                "rate": gains["unlearned"] / span if span else np.nan,
                "rate_control": gains["control"] / span if span else np.nan,
                "blindness": a("control", step) - a("unlearned", step) if level == "C5" else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _explained(table: pd.DataFrame) -> Explained:
    """Return the table with each level's name (none for the controls) and the mean K at its control."""
    words = (
        "What the models show with ever more help in the context, of which only the last says the answer. Hollow: "
        "with a context as long about something else. Where the unlearned model is above the model that never learned, "
        "it still holds something; where it is below that in C5, it cannot use what it is told."
    )
    alike = table[table["level"] == "Cx"].set_index("size")["known"]
    shown = table.assign(context=table["level"].map(CONTEXTS), known_alike=table["control"].map(alike))
    called = {"known": "A (mean K)", "known_alike": "context of that length"}
    chart = Chart("line", "size", ("known",), panel="context", baseline="known_alike", words=called)
    return Explained(shown, "Put back in context", words, chart)
