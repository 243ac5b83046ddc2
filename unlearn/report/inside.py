"""The tables that attacks leave beside their answers: what is drawn of them, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from unlearn.leak.record import Trial
from unlearn.report import inside_figures as figures
from unlearn.report.folder import Attacks
from unlearn.report.inside_figures import TRIALS, Tables
from unlearn.report.style import Drawn

Entry = tuple[set[str], str, str, Callable[[Tables], Figure]]  # columns that are drawn, title, words, figure
INSIDE: dict[str, Entry] = {  # by the table's name
    "probe": (
        {"layer", "accuracy", "control"},
        "Linear probes",
        "How well a linear probe tells true from false answers at each layer, on items that it was not fitted to. "
        "Where the unlearned model is near the original and above the control model, the knowledge is still inside.",
        figures.probe,
    ),
    "lens": (
        {"layer", "stream", "score"},
        "Logit lens",
        "How early in the model, and in which stream, the answer can be read through the output vocabulary. Where the "
        "unlearned model keeps the original's colours, the answer is formed inside and suppressed later.",
        figures.lens,
    ),
    "buckets": (
        {"format", "layer", "moved", "steps"},
        "Quantisation",
        "How far unlearning moved the weights, on the grid of each number format. Weights that stay in the original's "
        "bucket are the original's again once they are rounded; dotted: half a step.",
        figures.buckets,
    ),
    "patch": (
        {"layer", "direction", "score"},
        "Patching",
        "How well the fact can be said when the hidden states of one model go on in the other, from each layer on. "
        "Left, with the original below: where the unlearned model is low, its later layers hold the fact back. Right, "
        "with the original above: where it is high, its earlier layers still have the fact.",
        figures.patch,
    ),
    "abliterate": (
        {"contrast", "layer", "taught"},
        "Ablated directions",
        "What the models show of the attacker's own items when the direction found at one layer is taken out of all. "
        "Where only the unlearned model rises, that direction held the knowledge back.",
        figures.abliterate,
    ),
    "speed": (
        {"step", "nll", "reached"},
        "Relearning curve",
        "Loss of the forgotten answers while they are taught again, and the share of them below the attack's threshold "
        "(`nats`). Where the unlearned model learns faster than the model that never knew them, a trace is left.",
        figures.speed,
    ),
    "dialogue": (
        {"turn", "known"},
        "Long conversation",
        "What the models show when the question is put at a turn of a conversation that drifts towards its subject. "
        "Where only the unlearned model rises from the first turn on, the context brings the knowledge back.",
        figures.dialogue,
    ),
    "ladder": (
        {"level", "size", "known", "control"},
        "Put back in context",
        "What the models show with ever more help in the context, of which only the last says the answer. Hollow: "
        "with a context as long about something else. Where the unlearned model is above the model that never learned, "
        "it still holds something; where it is below that in C5, it cannot use what it is told.",
        figures.ladder,
    ),
    "rings": (
        {"ring", "distance", "n", "known"},
        "Damage by distance",
        "Knowledge from the forgotten outwards: the same subject, the same form of question, the same field, far away. "
        "Only the first is to fall; by what the unlearned model is below the others further out, it is damaged.",
        figures.rings,
    ),
    "hops": (
        {"hops", "hop_1", "hop_2", "composed"},
        "Multi-hop questions",
        "Each hop alone, the forgotten fact last, and all in one question that does not name its subject. Where the "
        "composed question is answered but not the fact alone, the fact was only cut off from its subject's name.",
        figures.hops,
    ),
    "samples": (
        {"mean", "expectation"},
        "Samples by item",
        "How often each item comes out when the question is sampled, the most leaking items first; dashed: what that "
        "may be at most, with the attack's `alpha`. A steep fall says that few items leak, but often.",
        figures.samples,
    ),
    "refusals": (
        {"group", "refused"},
        "Refusals",
        "How many questions are declined: about the forgotten, about what should stay, harmless ones that name a "
        "forgotten subject (alike), ones about names that nobody bears (invented), and about the forgotten in the "
        "frames of jailbreaks. To decline the second and third is over-refusal.",
        figures.refusals,
    ),
    "confidence": (
        {"group", "known", "refused", "invented", "confidence"},
        "Invented answers",
        "What becomes of a question: known, declined, or answered wrongly, and how sure the model is then. A model "
        "that never learned shows how much invention is to be expected.",
        figures.confidence,
    ),
    "membership": (
        {"signal", "role", "score"},
        "Membership",
        "How well each signal tells forget rows from rows that no model saw. Dotted: not at all. An unlearned model on "
        "either side of the model that never learned gives away that the rows were there, or were removed.",
        figures.membership,
    ),
    "sleek": (
        {"side", "category", "final"},
        "Reasoning chains",
        "What the models show at the end of a chain of questions that leads to the fact, by kind of chain. For the "
        "retain items a fall below the original is collateral damage, unless the control model falls as well.",
        figures.sleek,
    ),
}


def inside(attacks: Attacks) -> dict[str, Drawn]:
    """The figures of these attacks' tables, by name, `attack-ATTACK-TABLE`."""
    drawn = {}
    for name in attacks.attacks:
        tables = _tables(attacks, name)
        for table, (_, title, words, draw) in INSIDE.items():
            mine = {t: found[table] for t, found in tables.items() if table in found and _is_drawn(table, found[table])}
            if mine:
                drawn[f"attack-{name}-{table}"] = Drawn(f"{title}: {name}", words, draw(mine))
    return drawn


def undrawn(attacks: Attacks) -> Iterator[tuple[str, Trial, str, pd.DataFrame]]:
    """The tables that have rows but no figure: attack, model, name, table."""
    for name in attacks.attacks:
        for trial, found in _tables(attacks, name).items():
            for table, rows in found.items():
                if len(rows) and not _is_drawn(table, rows):
                    yield name, trial, table, rows


def _tables(attacks: Attacks, name: str) -> dict[Trial, Mapping[str, pd.DataFrame]]:
    found = {trial: attacks.found(name, trial) for trial in TRIALS}
    return {trial: one.attacked.tables for trial, one in found.items() if one}


def _is_drawn(name: str, table: pd.DataFrame) -> bool:
    return name in INSIDE and len(table) > 0 and INSIDE[name][0] <= set(table)
