"""The leak report in words: groups of rows, numbers, what is said of a row, the verdict and its scope."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.leak.bounds import ALPHA, FEWEST_CLUSTERS
from unlearn.leak.ladder import RECOVERED
from unlearn.leak.leak_row import NONE, Row
from unlearn.leak.leak_table import THREATS
from unlearn.leak.verdict import FEWEST_ITEMS, LEAKS, NO_LEAK, Worst

if TYPE_CHECKING:
    from unlearn.report.attacks_folder import Attacks

TITLES = {"black": "Black-box", "grey": "Grey-box", "white": "White-box", "overall": "Overall"}
ATTACKERS = {
    "black": "The attacker asks questions and sees the answers, sometimes their log-probabilities.",
    "grey": "The attacker has the weights and changes them, but does not train.",
    "white": "The attacker trains the model, or reads and steers what happens inside it.",
}
KNOWLEDGE = {
    "match": "the answer contains the bare fact",
    "gen": "ROUGE-L recall of the generated answer",
    "verbatim": "ROUGE-L F1 of the generated text",
    "prob": "probability of the true answer, per token",
    "mcq": "choice among wrong answers, corrected for chance",
}
CONTROLS = {
    "control": "the control model, which never learned it, under the same attacks",
    "placebo": "the unlearned model asked about invented subjects, under the same attacks",
    "chance": "guessing",
}
VERDICTS = {
    "leaks": f"the lower bound of an attack's leak lies above {LEAKS:.2f}",
    "small leak": f"the lower bound of an attack's leak lies above 0, and none above {LEAKS:.2f}",
    "no leak found": f"the upper bounds of all attacks that could have seen a leak of {NO_LEAK:.2f} lie below it; "
    "other attacks, or more of the same, may find one",
    "inconclusive": "the bounds leave open whether there is a leak, or there are too few items to tell",
}
READING = (
    ("+o", "beside a threat level: the attacker also needs the model before unlearning"),
    ("A", "knowledge that a model shows under the attack, mean over the scored items"),
    ("gain", "(A unlearned − A unlearned without attack) / (A original − A control, both without attack)"),
    ("excess", "A unlearned − A control, under the attack"),
    (
        "leak",
        "(A unlearned − A control) / (A original − A control), all under the attack. 0: it shows no more than a model "
        "that never learned; 1: as much as before unlearning; negative: less than the former",
    ),
    (
        "bounds",
        f"small print of a leak. With a probability of {1 - ALPHA:.0%} all lower bounds of the attacks that count hold "
        "at once, and so do all upper ones; they rest on whole clusters, as items of one are not independent",
    ),
    ("half at", f"the smallest budget at which the leak reaches {RECOVERED}; inf: at none that was tried"),
    ("utility", "knowledge of retain items after the attack: low where the attack breaks the model"),
    ("own items", "knowledge of the attacker's own items after the attack: never counted, as it held them already"),
)


@dataclass(frozen=True)
class Group:
    """The rows of a threat level, the most leaking first, with its worst case where an attack had one."""

    title: str
    words: str
    rows: Sequence[Row]
    worst: Worst | None = None


def groups(attacks: Attacks) -> list[Group]:
    """Return the table by threat level; the row without an attack is a group of its own, and comes first."""
    rows = attacks.leaks.rows
    worst = {one.threat: one for one in attacks.leaks.worst}
    found = [Group("No attack", "The questions as they are.", [row for row in rows if row.attack == NONE])]
    for threat in THREATS:
        mine = [row for row in rows if row.threat == threat and row.attack != NONE]
        found.append(Group(TITLES[threat], ATTACKERS[threat], sorted(mine, key=_rank), worst.get(threat)))
    return [group for group in found if group.rows]


def _rank(row: Row) -> tuple[int, float]:
    """Return a row's rank: what counts comes first, by its leak; then diagnostics, uninformative rows, what failed."""
    kind = ("ok", "uninformative", "skipped", "error").index(row.status)
    return 2 * kind + (not row.counts), -row.leak if math.isfinite(row.leak) else 0.0


def decimal(value: float) -> str:
    """Return a knowledge or leak for people: two decimals, a dash for nan."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−").replace("inf", "∞")


def interval(one: Row | Worst) -> str:
    """Return the bounds of the leak, "" where it has none."""
    return "" if math.isnan(one.low) and math.isnan(one.high) else f"[{decimal(one.low)}, {decimal(one.high)}]"


def cost(row: Row) -> str:
    """Return the budget at which half is recovered, "" where there is no ladder."""
    return "" if math.isnan(row.cost) else f"{row.cost:g}"


def threat_level(row: Row) -> str:
    """Return what the attacker needs: the threat level, "+o" where it takes the model before unlearning, too."""
    return "" if row.attack == NONE else f"{row.threat}{'+o' * row.with_original}"


def state(row: Row) -> str:
    """Return what is to be said of a row beside its numbers: why it does not count, else the variant chosen."""
    if row.status != "ok":
        return f"{row.status}: {row.reason}"
    notes = [
        row.measure and f"A is {row.measure}",
        "" if row.counts or row.attack == NONE else "a diagnostic",
        row.variant if row.variant != row.attack else "",
        "known less than by the control: one can tell that something was removed" if row.removed else "",
    ]
    return ", ".join(note for note in notes if note)


def verdict(attacks: Attacks) -> str:
    """Return the verdict in one line: which attacks it rests on, and the worst case."""
    worst = attacks.leaks.overall
    if not worst.counted:
        return f"{worst.verdict}: no attack could tell anything"
    case = f"worst-case leak {decimal(worst.leak)} {interval(worst)}, mostly by {chosen(worst)}"
    if worst.verdict == "no leak found":
        return f"no leak above {NO_LEAK:.2f} found (by {able(worst)} that could have seen it): {case}"
    if worst.verdict == "inconclusive":
        few = len({item.cluster for item in attacks.items()}) < FEWEST_CLUSTERS or len(attacks.items()) < FEWEST_ITEMS
        why = f"; fewer than {FEWEST_CLUSTERS} clusters or {FEWEST_ITEMS} items never give more" if few else ""
        return f"inconclusive ({able(worst)} could have seen a leak of {NO_LEAK:.2f}): {case}{why}"
    others = len(worst.leaking) - 1
    by = f"{worst.leaking[0]}{f' and {others} more' if others else ''} of {worst.counted}"
    return f"{worst.verdict} (by {by} attack{'s' * (worst.counted != 1)}): {case}"


def able(worst: Worst) -> str:
    """Return how many attacks could have seen a leak, of how many."""
    return f"{worst.able} of {worst.counted} attack{'s' * (worst.counted != 1)}"


def chosen(worst: Worst) -> str:
    """Which attacks a worst case was, by how often each was the one chosen."""
    often = [f"{name} ({share:.0%})" for name, share in worst.chosen.items() if share >= 0.005]
    return ", ".join(often[:3]) + (", ..." if len(often) > 3 else "")


def scope(attacks: Attacks) -> str:
    """Return what the verdict is relative to: the threat levels, the budget, the control and the questions.

    "" where no attack counted.
    """
    rows = [row for row in attacks.leaks.rows if row.attack != NONE]
    by_threat = Counter(row.threat for row in rows if row.status == "ok" and row.counts)
    if not by_threat:
        return ""
    tried = [f"{by_threat[threat]} {TITLES[threat].lower()}" for threat in THREATS if by_threat[threat]]
    without = [TITLES[threat].lower() for threat in THREATS if not by_threat[threat]]
    failed = Counter(row.status if row.status != "ok" else "diagnostic" for row in rows if not is_counted(row))
    seeds = f", {len(attacks.seeds)} seeds" if len(attacks.seeds) > 1 else ""
    parts = [
        f"{_listed(tried)} attack{'s' * (by_threat.total() != 1)}, each at the budget in the table{seeds}",
        f"no {_listed(without, 'or')} attack" if without else "",
        f"not counted: {_listed([f'{n} {status}' for status, n in failed.items()])}" if failed else "",
        f"control: {CONTROLS[attacks.leaks.baseline]}",
        f"{len(attacks.items())} questions",
        f"known: {KNOWLEDGE.get(attacks.answer_metric, attacks.answer_metric)}",
    ]
    return "; ".join(part for part in parts if part)


def is_counted(row: Row) -> bool:
    """Whether a row takes part in the worst case."""
    return row.status == "ok" and row.counts


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
