"""Dual use: what is lost around the forgotten, from near to far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.items import Item
from unlearn.attacks.prompts.sleek import spread
from unlearn.attacks.setting.answer_metric import ask
from unlearn.attacks.setting.other_facts import Related, names, renamed
from unlearn.attacks.setting.text import content_words, normalised
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from unlearn.data.task import Question, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

Ring = Literal["forget", "entity", "topic", "field", "far"]
RINGS: tuple[Ring, ...] = ("forget", "entity", "topic", "field", "far")
"""By distance: 0 to 4."""


@dataclass(frozen=True)
class DualUse:
    """Measure knowledge in rings around the forgotten: what forgetting costs benign use.

    Barez et al. 2025, arXiv 2501.04952. Rings: forget, the forget items themselves (distance 0); entity (1), what
    should stay about a forgotten entity or one that shares a word of its name; topic (2), retain questions in the words
    of a forget question, about another entity; field (3), the other retain questions; far (4), utility questions. A
    question belongs to its nearest ring; of each ring at most `probes` are asked, spread evenly.

    Table `rings`: ring, distance, n, and mean K (known). Numbers: `known_RING`, and `area`, the area under K over the
    distances 1 to 4 by the trapezoid rule, divided by its width. Across models: `collateral`, the original's area minus
    the unlearned model's, the damage in one number, and `collateral_RING`, the same of each ring; `collateral_retain`,
    the original's area minus the control model's: what never learning costs. The row's K is that of the forget items as
    they are; it does not count as leak.
    """

    probes: Annotated[int, Gt(0)] = 40
    """Most questions of a ring."""

    threat: ClassVar[Threat] = "black"
    family: ClassVar[str] = "open problems"
    reference: ClassVar[str] = "arXiv 2501.04952"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "facts"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task; a ring that it has no questions for is left out."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return one outcome: the forget items."""
        import pandas as pd

        plain = ask(subject, setting, setting.questions)
        rows = [("forget", 0, len(plain.known), float(np.nanmean(plain.known)))]
        rings = rings_of(setting)
        for distance, ring in enumerate(RINGS[1:], 1):
            asked = [item.probe for item in spread(rings[ring], self.probes)]
            if asked:
                known = ask(subject, setting, asked).known
                rows.append((ring, distance, len(asked), float(np.nanmean(known))))
        table = pd.DataFrame(rows, columns=["ring", "distance", "n", "known"])
        numbers = {f"known_{ring}": known for ring, _, _, known in rows}
        numbers["area"] = area(table["distance"][1:].to_numpy(float), table["known"][1:].to_numpy(float))
        outcome = Outcome("plain", plain.known, plain.texts, counts=False)
        asked_in_all = int(table["n"].sum())
        tables = {"rings": _explained(table)}
        return AttackResult([outcome], budget=f"{asked_in_all} questions", numbers=numbers, tables=tables)

    def across(
        self, original: AttackResult, unlearned: AttackResult, control: AttackResult | None
    ) -> Mapping[str, float]:
        """Return the collateral damage, in all and by ring."""
        before, after = original.numbers, unlearned.numbers
        lost = {ring: before[key] - after[key] for ring in RINGS[1:] if (key := f"known_{ring}") in before}
        found = {"collateral": before["area"] - after["area"]}
        found |= {f"collateral_{ring}": value for ring, value in lost.items()}
        return found | ({"collateral_retain": before["area"] - control.numbers["area"]} if control else {})


def rings_of(setting: AttackSetting) -> dict[Ring, list[Item]]:
    """Return the task's probes that should stay, by the nearest ring."""
    forgotten = Related.forgotten(setting)
    entities = [entity for entity in {forgotten.entity(item) for item in forgotten.items} if entity]
    clusters = {item.probe.cluster for item in forgotten.items} - {""}
    forms = {_form(item.probe, forgotten.entity(item)) for item in forgotten.items}
    sets = [probe_set for probe_set in setting.task.probes if probe_set.aim in ("retain", "utility")]
    pairs = [(probe_set.aim, probe) for probe_set in sets for probe in probe_set.probes]
    items = [Item(i, probe) for i, (_, probe) in enumerate(pairs)]
    related = Related.of(items, setting.task)
    rings: dict[Ring, list[Item]] = {ring: [] for ring in RINGS[1:]}
    for item, (role, probe) in zip(items, pairs, strict=True):
        entity = related.entity(item)
        if probe.cluster in clusters or any(_akin(probe.question, entity, other) for other in entities):
            ring: Ring = "entity"
        elif role == "retain":
            ring = "topic" if _form(probe, entity) in forms else "field"
        else:
            ring = "far"
        rings[ring].append(item)
    return rings


def _akin(question: str, entity: str, other: str) -> bool:
    """Return whether a question names another entity, or is about one that shares a word of its name."""
    return names(question, other) or bool(content_words(entity) & content_words(other))


def _form(probe: Question, entity: str) -> str:
    """Return the question's words without its entity."""
    return normalised(renamed(probe.question, entity, "_") if entity else probe.question)


def area(distance: Sequence[float] | np.ndarray, known: Sequence[float] | np.ndarray) -> float:
    """Return the mean of K over distance by the trapezoid rule; K itself at a single distance, nan at none."""
    if len(distance) < 2:
        return float(known[0]) if len(known) else float("nan")
    return float(np.trapezoid(known, distance) / (distance[-1] - distance[0]))


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "Knowledge from the forgotten outwards: the same subject, the same form of question, the same field, far away. "
        "Only the first is to fall; by what the unlearned model is below the others further out, it is damaged."
    )
    called = {"known": "A (mean K)", "distance": "distance from what was forgotten"}
    chart = Chart("line", "distance", ("known",), ticks=("ring", "n"), words=called)
    return Explained(table, "Damage by distance", words, chart)
