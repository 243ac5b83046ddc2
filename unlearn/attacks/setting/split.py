"""Who is asked what: the forget items split into those that the attacker holds (T) and those it is judged by (V)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn.attacks.items import Item, Split, forget_items
from unlearn.attacks.setting.contamination import Answers
from unlearn.data.task import Task
from unlearn.runtime.errors import UserError


@dataclass(frozen=True)
class Items:
    """taught: T, what attacks that learn may learn from. scored: V, what every attack is judged by.

    notes: what the reader of the report must know about the split, a sentence each.
    """

    attacker_items: tuple[Item, ...]
    held_out_items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def split_items(
    task: Task,
    share: float = 0.25,
    least: int = 5,
    split: Split = "across_cluster",
    limit: int | None = None,
    seed: int = 0,
) -> Items:
    """T: `share` of the forget probes, at least `least`; V: the others, without those whose answer is said in T (see
    `Answers`; all of them where most would go: three kinds of sport are known to everyone).

    across_cluster takes whole clusters (all that is asked about one person) until there are enough; within_cluster
    takes a share of each. limit: draw only so many probes first, whole clusters as long as they fit. The same seed
    gives the same split. UserError where too few items are left on a side.
    """
    items: Sequence[Item] = forget_items(task)
    if not items:
        raise UserError(f"dataset '{task.name}' has no forget probes to attack with: choose attack=none")
    rng = random.Random(f"items-{seed}")
    clusters = _clusters(items)
    notes = []
    if limit is not None and len(items) > limit:
        items = _draw(clusters, limit, rng)
        clusters = _clusters(items)
    wanted = max(least, round(share * len(items)))
    if split == "across_cluster" and len(clusters) < 2:
        split = "within_cluster"
        notes.append("all items are about one subject: the attacker's items are drawn from the same subject")
    if split == "across_cluster":
        names = sorted(clusters)
        rng.shuffle(names)
        taught: list[Item] = []
        while len(taught) < wanted and len(names) > 1:
            taught += clusters[names.pop()]
    else:
        taught = _draw(clusters, wanted, rng, whole=False)
    if len(taught) < wanted:
        notes.append(f"the attacker holds {len(taught)} items, not {wanted}: there are no more to give")
    held = {item.index for item in taught}
    rest = [item for item in items if item.index not in held]
    answers = Answers(rest)
    told = {index for item in taught for index in answers.said_in(f"{item.probe.question} {item.probe.answer}")}
    scored = [item for item in rest if item.index not in told]
    if len(scored) < len(rest) / 2:  # answers that many items share say little about any of them
        notes.append(f"answers are shared by many items: the attacker knows those of {len(rest) - len(scored)} others")
        scored = rest
    elif dropped := len(rest) - len(scored):
        notes.append(f"{dropped} of {len(rest)} held-out items are left out: their answers occur among the attacker's")
    for side, name, fewest in ((taught, "the attacker", 1), (scored, "judging it", 2)):
        if len(side) < fewest:
            raise UserError(
                f"dataset '{task.name}': {len(items)} forget items leave {len(side)} for {name}: "
                "lower leak.attacker_share, or choose attack=none"
            )
    order = {"key": lambda item: item.index}
    return Items(tuple(sorted(taught, **order)), tuple(sorted(scored, **order)), tuple(notes))  # type: ignore[call-overload]


def _clusters(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items by cluster; one without a name is a cluster of its own."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.probe.cluster or f"item {item.index}", []).append(item)
    return found


def _draw(clusters: dict[str, list[Item]], n: int, rng: random.Random, whole: bool = True) -> list[Item]:
    """n items: whole clusters in random order, the last one cut; else one of each cluster in turn."""
    names = sorted(clusters)
    rng.shuffle(names)
    if whole:
        return [item for name in names for item in clusters[name]][:n]
    piles = [rng.sample(clusters[name], len(clusters[name])) for name in names]
    turns = [pile[i] for i in range(max(map(len, piles))) for pile in piles if i < len(pile)]
    return turns[:n]
