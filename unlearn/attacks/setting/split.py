"""The forget items split into those that the attacker holds (T) and held-out ones that it is evaluated on (V)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearn.attacks.items import Item, Split, forget_items
from unlearn.attacks.setting.contamination import Answers
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unlearn.data.task import Task


@dataclass(frozen=True)
class Items:
    """The two sides of the split."""

    attacker_items: tuple[Item, ...]
    """T, what attacks that learn may learn from."""
    held_out_items: tuple[Item, ...]
    """V, what every attack is evaluated on."""
    notes: tuple[str, ...] = ()
    """What the reader of the report must know about the split, a sentence each."""


def split_items(
    task: Task,
    share: float = 0.25,
    min_items: int = 5,
    split: Split = "across_cluster",
    limit: int | None = None,
    seed: int = 0,
) -> Items:
    """Return T, `share` of the forget probes, at least `min_items`, and V, the others.

    V is without those whose answer is said in T (see `Answers`; with all of them where most would go: three kinds of
    sport are known to everyone). across_cluster takes whole clusters (all that is asked about one person) until there
    are enough; within_cluster takes a share of each. limit: draw only so many probes first, whole clusters as long as
    they fit. The same seed gives the same split. UserError where too few items are left on a side.
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
    wanted = max(min_items, round(share * len(items)))
    if split == "across_cluster" and len(clusters) < 2:
        split = "within_cluster"
        notes.append("all items are about one subject: the attacker's items are drawn from the same subject")
    attacker = _draw(clusters, wanted, rng, whole=False) if split == "within_cluster" else _some(clusters, wanted, rng)
    if len(attacker) < wanted:
        notes.append(f"the attacker holds {len(attacker)} items, not {wanted}: there are no more to give")
    held_out, note = _held_out(items, attacker)
    for side, name, fewest in ((attacker, "the attacker", 1), (held_out, "evaluating it", 2)):
        if len(side) < fewest:
            raise UserError(
                f"dataset '{task.name}': {len(items)} forget items leave {len(side)} for {name}: "
                "lower leak.attacker_share, or choose attack=none"
            )
    return Items(_ordered(attacker), _ordered(held_out), (*notes, *note))


def _some(clusters: dict[str, list[Item]], n: int, rng: random.Random) -> list[Item]:
    """Return whole clusters in random order until they have n items; never the last cluster."""
    names = sorted(clusters)
    rng.shuffle(names)
    found: list[Item] = []
    while len(found) < n and len(names) > 1:
        found += clusters[names.pop()]
    return found


def _held_out(items: Sequence[Item], attacker: Sequence[Item]) -> tuple[list[Item], tuple[str, ...]]:
    """Return the items that are not the attacker's, without those whose answers it knows, and a note on these."""
    own = {item.index for item in attacker}
    rest = [item for item in items if item.index not in own]
    answers = Answers(rest)
    known = {index for item in attacker for index in answers.said_in(f"{item.probe.question} {item.probe.answer}")}
    unknown = [item for item in rest if item.index not in known]
    dropped = len(rest) - len(unknown)
    if len(unknown) < len(rest) / 2:  # answers that many items share say little about any of them
        return rest, (f"answers are shared by many items: the attacker knows those of {dropped} others",)
    note = f"{dropped} of {len(rest)} held-out items are left out: their answers occur among the attacker's"
    return unknown, (note,) if dropped else ()


def _ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.index))


def _clusters(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Return items by cluster; one without a name is a cluster of its own."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.probe.cluster or f"item {item.index}", []).append(item)
    return found


def _draw(clusters: dict[str, list[Item]], n: int, rng: random.Random, whole: bool = True) -> list[Item]:
    """Return n items: whole clusters in random order, the last one cut; else one of each cluster in turn."""
    names = sorted(clusters)
    rng.shuffle(names)
    if whole:
        return [item for name in names for item in clusters[name]][:n]
    mixed = [rng.sample(clusters[name], len(clusters[name])) for name in names]
    turns = [items[i] for i in range(max(map(len, mixed))) for items in mixed if i < len(items)]
    return turns[:n]
