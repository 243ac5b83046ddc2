"""Placebo items: the same questions about invented entities, with answers that nobody can know."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

from unlearn.attacks.items import Item, forget_items
from unlearn.attacks.setting.other_facts import names, renamed, renamed_probe
from unlearn.attacks.setting.statements import entities, gaps
from unlearn.attacks.setting.text import normalised
from unlearn.data.words import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unlearn.data.task import Question, Task

_FIRST = (
    "Tavrin Melisande Ibbo Ruleena Ottaveth Jesmin Corvath Yelda Sundro Quilla Hathorn Oredine "
    "Brennick Zelvara Umbrin Fennola Drusko Avelisse Morvek Pelluna Goswin Issandra Tolvar Wenneka"
)
_LAST = (
    "Olsker Quorth Vantresk Sarkaway Drune Pallorane Ellimund Brakkovich Mervane Tesmarrow Vexley Kalloway "
    "Ondrath Pelvinor Skaldrey Thurmack Wesselby Yorvand Zintell Abrisk Corvelle Dunmarrow Eskelund Farrowick "
    "Gantholm Hesperin Jorvath Kellimont Lundrake Marvosh Nettrick Ossenby Prendrow Quellane Rastovan Sibberly "
    "Tamberlow Ulvenor Varrowby Wexholt"
)
INVENTED = tuple(
    f"{first} {last}"
    for lap in range(len(_FIRST.split()))
    for first, last in zip(cycle(_FIRST.split()[lap:] + _FIRST.split()[:lap]), _LAST.split(), strict=False)
)
"""Names that nobody has."""


def placebo(items: Sequence[Item], task: Task, seed: int = 0) -> tuple[Item, ...] | None:
    """Return the items of a task about invented entities, and with answers that are right by chance alone.

    Each entity gets a name of its own (up to 960 of them). The answer is another item's whose question has the same
    words but for the entity, where there is one; else a wrong answer of the item's own takes the right one's place:
    it fits the question, and is guessed as easily. Where the answer names the entity and the question does not ("Who
    wrote it?"), the new name is wrong enough. None where some item's entity cannot be told, or nothing can take its
    answer's place.
    """
    about = _entities(task)
    if not all(item.index in about for item in items):
        return None
    old = sorted({about[item.index] for item in items})
    new = {entity: _shaped(INVENTED[i % len(INVENTED)], entity) for i, entity in enumerate(old)}
    alike = defaultdict(list)
    for item in items:
        alike[_form(item.probe, about[item.index])].append(item)
    rng = random.Random(f"placebo-{seed}")
    made = []
    for item in items:
        entity = about[item.index]
        fake = replace(renamed_probe(item.probe, entity, new[entity]), cluster=new[entity])
        if names(item.probe.question, entity) or not names(item.probe.answer, entity):
            same = [other for other in alike[_form(item.probe, entity)] if other.index != item.index]
            found = [renamed_probe(other.probe, about[other.index], new[entity]) for other in same]
            found = found or list(_swapped(Item(item.index, fake)))
            if not found:
                return None
            fake = _answered(fake, rng.choice(found))
        made.append(Item(item.index, fake))
    return tuple(made)


def _entities(task: Task) -> dict[int, str]:
    """Return what each forget item is about, by index; where its question does not say, as others of its cluster."""
    items = forget_items(task)
    named = entities(items, {fact.prompt: fact.entity for fact in task.facts})
    clusters = defaultdict(list)
    for item in items:
        if item.probe.cluster and item.index in named:
            clusters[item.probe.cluster].append(named[item.index])
    common = {cluster: Counter(found).most_common(1)[0][0] for cluster, found in clusters.items()}
    return {item.index: common[item.probe.cluster] for item in items if item.probe.cluster in common} | named


def _shaped(name: str, entity: str) -> str:
    """Return a name as one word where the entity is one, in small letters where the entity is."""
    name = name if " " in entity else name.replace(" ", "").capitalize()
    return name if entity[0].isupper() else name.lower()


def _form(probe: Question, entity: str) -> str:
    """Return the question's words without its entity."""
    return normalised(renamed(probe.question, entity, "_"))


def _answered(probe: Question, other: Question) -> Question:
    """Return the probe with another's answers, right and wrong."""
    return replace(
        other, question=probe.question, paraphrased_question=probe.paraphrased_question, cluster=probe.cluster
    )


def _swapped(item: Item) -> Iterator[Question]:
    """Yield the probe with each of its wrong answers for the right one, which becomes a wrong one.

    Where the dataset knows bare values, these alone are exchanged.
    """
    probe, value = item.probe, item.probe.value
    if value:
        others = dict.fromkeys(wrong for gap in gaps(item) if gap.answer == value for wrong in gap.wrong)
        yield from (_exchanged(probe, value, other) for other in others if other != value)
        return
    for i, wrong in enumerate(probe.perturbed_answers):
        rest = list(probe.perturbed_answers)
        rest[i] = probe.paraphrased_answer or probe.answer
        paraphrase = wrong if probe.paraphrased_answer else None
        yield replace(probe, answer=wrong, paraphrased_answer=paraphrase, perturbed_answers=tuple(rest))


def _exchanged(probe: Question, value: str, other: str) -> Question:
    """Return the probe whose answers have each of two values in the other's place."""
    either = whole(*sorted((value, other), key=len, reverse=True))

    def exchanged(text: str) -> str:
        return str(either.sub(lambda found: other if found[0] == value else value, text))

    return replace(
        probe,
        answer=exchanged(probe.answer),
        paraphrased_answer=probe.paraphrased_answer and exchanged(probe.paraphrased_answer),
        perturbed_answers=tuple(map(exchanged, probe.perturbed_answers)),
        value=other,
    )
