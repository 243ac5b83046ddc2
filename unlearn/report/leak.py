"""The leak report for people: the verdict with its scope, the table, and what of it is tracked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlearn.leak.leak_table import LEAKS, NO_LEAK, NONE, RECOVERED, THREATS, Row, Worst
from unlearn.leak.record import Trial
from unlearn.leak.tables import leak_table
from unlearn.report.attacks_folder import ATTACKS, Attacks, read_attacks
from unlearn.report.render import render

if TYPE_CHECKING:
    from unlearn.report.tracking import Tracker

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
    "leaks": f"the whole interval lies above {LEAKS:.2f}",
    "no leak found": f"the whole interval lies below {NO_LEAK:.2f}; other attacks, or more of the same, may find one",
    "inconclusive": "the interval leaves open whether there is a leak",
}
STYLES = {"leaks": "bold red", "no leak found": "bold green", "inconclusive": "bold yellow"}
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
    ("half at", f"the smallest budget at which the leak reaches {RECOVERED}; inf: at none that was tried"),
    ("utility", "knowledge of retain items after the attack: low where the attack breaks the model"),
    ("taught", "knowledge of the attacker's own items after the attack: what it taught, never counted"),
)


@dataclass(frozen=True)
class Group:
    """The rows of a threat level, the most leaking first, with its worst case where an attack had one."""

    title: str
    words: str
    rows: Sequence[Row]
    worst: Worst | None = None


def groups(attacks: Attacks) -> list[Group]:
    """The table by threat level; the row without an attack is a group of its own, and comes first."""
    rows = attacks.leaks.rows
    worst = {one.threat: one for one in attacks.leaks.worst}
    found = [Group("No attack", "The questions as they are.", [row for row in rows if row.attack == NONE])]
    for threat in THREATS:
        mine = [row for row in rows if row.threat == threat and row.attack != NONE]
        found.append(Group(TITLES[threat], ATTACKERS[threat], sorted(mine, key=_rank), worst.get(threat)))
    return [group for group in found if group.rows]


def _rank(row: Row) -> tuple[int, float]:
    """What counts comes first, by its leak; then diagnostics, uninformative rows, and what failed."""
    kind = ("ok", "uninformative", "skipped", "error").index(row.status)
    return 2 * kind + (not row.counts), -row.leak if math.isfinite(row.leak) else 0.0


def decimal(value: float) -> str:
    """A knowledge or leak for people: two decimals, a dash for nan."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def interval(one: Row | Worst) -> str:
    """The leak's 95 % interval, "" where it has none."""
    return "" if math.isnan(one.low + one.high) else f"[{decimal(one.low)}, {decimal(one.high)}]"


def cost(row: Row) -> str:
    """The budget at which half is recovered, "" where there is no ladder."""
    return "" if math.isnan(row.cost) else f"{row.cost:g}"


def threat_level(row: Row) -> str:
    """What the attacker needs: the threat level, "+o" where it takes the model before unlearning, too."""
    return "" if row.attack == NONE else f"{row.threat}{'+o' * row.with_original}"


def state(row: Row) -> str:
    """What is to be said of a row beside its numbers: why it does not count, else the variant that was chosen."""
    if row.status != "ok":
        return f"{row.status}: {row.reason}"
    notes = [row.measure and f"A is {row.measure}", "" if row.counts or row.attack == NONE else "a diagnostic"]
    return ", ".join(note for note in (*notes, row.variant if row.variant != row.attack else "") if note)


def verdict(attacks: Attacks) -> str:
    """The verdict in one line: the worst case over all attacks, and which it mostly was."""
    worst = attacks.leaks.overall
    if math.isnan(worst.leak):
        return f"{worst.verdict}: no attack could tell anything"
    return f"{worst.verdict}: worst-case leak {decimal(worst.leak)} {interval(worst)}, by {chosen(worst)}"


def chosen(worst: Worst) -> str:
    """Which attacks a worst case was, by how often each was the one chosen."""
    often = [f"{name} ({share:.0%})" for name, share in worst.chosen.items() if share >= 0.005]
    return ", ".join(often[:3]) + (", ..." if len(often) > 3 else "")


def scope(attacks: Attacks) -> str:
    """What the verdict is relative to: the threat levels, the budget, the control and the questions."""
    rows = [row for row in attacks.leaks.rows if row.attack != NONE]
    by_threat = Counter(row.threat for row in rows if row.status == "ok" and row.counts)
    tried = [f"{by_threat[threat]} {TITLES[threat].lower()}" for threat in THREATS if by_threat[threat]]
    without = [TITLES[threat].lower() for threat in THREATS if not by_threat[threat]]
    failed = Counter(row.status if row.status != "ok" else "diagnostic" for row in rows if not _counts(row))
    seeds = f", {len(attacks.seeds)} seeds" if len(attacks.seeds) > 1 else ""
    parts = [
        f"{_listed(tried) or 'no'} attack{'s' * (by_threat.total() != 1)}, each at the budget in the table{seeds}",
        f"no {_listed(without, 'or')} attack" if without else "",
        f"not counted: {_listed([f'{n} {status}' for status, n in failed.items()])}" if failed else "",
        f"control: {CONTROLS[attacks.leaks.baseline]}",
        f"{len(attacks.items())} questions",
        f"known: {KNOWLEDGE.get(attacks.answer_metric, attacks.answer_metric)}",
    ]
    return "; ".join(part for part in parts if part)


def _counts(row: Row) -> bool:
    return row.status == "ok" and row.counts


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def context(attacks: Attacks) -> dict[str, Any]:
    """What the templates need of the leak report."""
    overall = attacks.leaks.overall
    return {
        "verdict": overall.verdict,
        "line": verdict(attacks),
        "meaning": VERDICTS[overall.verdict],
        "scope": scope(attacks),
        "worst": [_worst(one) for one in attacks.leaks.worst],
        "groups": [
            {
                "title": group.title,
                "words": group.words,
                "worst": _worst(group.worst) if group.worst else None,
                "rows": list(map(_cells, group.rows)),
            }
            for group in groups(attacks)
        ],
        "reading": READING,
        "notes": attacks.leaks.notes,
        "numbers": _numbers(attacks),
    }


def _numbers(attacks: Attacks) -> list[tuple[str, str, list[str]]]:
    """Attack, name and value of what else the attacks measured: on each model, then what several gave together."""
    rows = []
    trials = _trials(attacks)
    for name in attacks.names:
        of_models = [found.attacked.numbers if (found := attacks.found(name, t)) else {} for t in trials]
        for key in dict.fromkeys(key for numbers in of_models for key in numbers):
            rows.append((name, key, [decimal(numbers.get(key, math.nan)) for numbers in of_models]))
        together = attacks.numbers.get(name, {})
        rows += [(name, key, ["", decimal(value), ""]) for key, value in together.items()]
    return [(name, key.replace("_", " "), values) for name, key, values in rows]


def _trials(attacks: Attacks) -> list[Trial]:
    """The original, the unlearned model and the control."""
    return ["original", "unlearned", "placebo" if attacks.leaks.baseline == "placebo" else "control"]


def _worst(one: Worst) -> dict[str, str]:
    return {
        "title": TITLES[one.threat],
        "verdict": one.verdict,
        "leak": decimal(one.leak),
        "interval": interval(one),
        "chosen": chosen(one),
    }


def _cells(row: Row) -> dict[str, Any]:
    made = row.status in ("ok", "uninformative")
    numbers = ("original", "unlearned", "control", "before", "gain", "excess", "leak", "taught", "utility")
    held = [row.data, "the original model" if row.with_original else ""]
    held = [part for part in held if part] or ["no data" if made and row.attack != NONE else ""]
    spent = [*held, row.budget]
    return {
        "attack": row.attack,
        "family": row.family if row.attack != NONE else "",
        "threat": threat_level(row),
        "reference": row.reference,
        "made": made,
        "counts": row.attack == NONE or _counts(row),
        "spent": ", ".join(part for part in spent if part),
        "interval": interval(row),
        "cost": cost(row),
        "state": state(row),
        "seconds": "–" if math.isnan(row.seconds) else f"{row.seconds:.1f}",
        "gflop": "–" if math.isnan(row.gflop) else f"{row.gflop:,.0f}",
        **{name: decimal(getattr(row, name)) for name in numbers},
    }


def write_leaks(attacks: Attacks) -> None:
    """Write leak.md, the report as a table, beside leak.json."""
    title = f"Leaks of {attacks.folder.resolve().parent.name}"
    render("leak.md.j2", attacks.folder / "leak.md", leaks=context(attacks), title=title, level=1)


def print_leaks(folder: Path) -> None:
    """Print the leak table and the verdict of a run folder, and write leak.md, where no report is asked for.

    UserError where the folder has no leak report, or a damaged one.
    """
    attacks = read_attacks(Path(folder) / ATTACKS)
    write_leaks(attacks)
    show_leaks(attacks, console())
    print(f"leaks: {attacks.folder / 'leak.md'}")


def console() -> Console:
    """Where results are printed; into a file or a pipe, wide enough for a table."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, 120)
    return made


def show_leaks(attacks: Attacks, where: Console) -> None:
    """Print the table, and the verdict with its scope."""
    where.print(table(attacks))
    where.print(Text(verdict(attacks), style=STYLES[attacks.leaks.overall.verdict]), soft_wrap=True)
    where.print(Text(f"scope: {scope(attacks)}", style="dim"), soft_wrap=True)


def table(attacks: Attacks) -> Table:
    """The leak report for a console: a row per attack, then the worst case of each threat level."""
    made = Table(title=Text("Leaks", style="bold"), box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("attack", no_wrap=True)
    made.add_column("threat")
    for head in ("original", "unlearned", "control", "leak"):
        made.add_column(head, justify="right", style="bold" if head == "leak" else "", no_wrap=True)
    made.add_column("")
    for group in groups(attacks):
        for row in group.rows:
            numbers = [decimal(value) for value in (row.original, row.unlearned, row.control)]
            said = shorten(state(row), 60, placeholder=" ...")
            style = "" if _counts(row) or row.attack == NONE else "dim"
            made.add_row(
                Text(row.attack), threat_level(row), *numbers, _leak(row), Text(said, style="dim"), style=style
            )
    made.add_section()
    for one in attacks.leaks.worst:
        name, level = ("worst case of all", "") if one.threat == "overall" else ("worst case", one.threat)
        made.add_row(Text(name, style="bold"), level, "", "", "", _leak(one), Text(one.verdict, STYLES[one.verdict]))
    return made


def _leak(one: Row | Worst) -> Text:
    return Text(decimal(one.leak)).append(f" {interval(one)}", style="not bold dim")


def tracked(attacks: Attacks) -> dict[str, float | str]:
    """The leak report by key (`attack/NAME/leak`, `attack/worst/leak_low`, `attack/worst/black/leak`), with what else
    the attacks measured (`attack/NAME/KEY` of several models together, `attack/NAME/unlearned/KEY` of one); what is
    undefined is left out."""
    worst = attacks.leaks.overall
    values: dict[str, float] = {}
    for row in attacks.leaks.rows:
        parts = {"leak": row.leak, "excess": row.excess, "gain": row.gain, "A_u": row.unlearned}
        values |= {f"attack/{row.attack}/{name}": value for name, value in parts.items()}
    values |= {
        "attack/worst/leak": worst.leak,
        "attack/worst/leak_low": worst.low,
        "attack/worst/leak_high": worst.high,
    }
    for one in attacks.leaks.worst[:-1]:
        values[f"attack/worst/{one.threat}/leak"] = one.leak
    for attack in attacks.names:
        values |= {f"attack/{attack}/{name}": value for name, value in attacks.numbers.get(attack, {}).items()}
        for trial in _trials(attacks):
            numbers = found.attacked.numbers if (found := attacks.found(attack, trial)) else {}
            values |= {f"attack/{attack}/{trial}/{name}": value for name, value in numbers.items()}
    return {"attack/verdict": worst.verdict, **{key: v for key, v in values.items() if math.isfinite(v)}}


def track_leaks(attacks: Attacks, tracker: Tracker) -> None:
    """Send the leak report to the tracker: the numbers by key, and the table as `attack/leaks`."""
    tracker.log_summary(tracked(attacks))
    rows = leak_table(attacks.leaks)
    tracker.log_table("attack/leaks", rows.assign(cost=[cost(row) for row in attacks.leaks.rows]))
