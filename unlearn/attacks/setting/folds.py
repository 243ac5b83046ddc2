"""Items in parts that an attacker learns from, and parts that tell it how well that went."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.items import Item, Split


def split_folds(items: Sequence[Item], folds: int, split: Split, seed: int) -> list[list[Item]]:
    """Return the items in at most `folds` folds of about the same size, at random; none is empty.

    across_cluster: whole clusters, each in turn (the largest first) added to the smallest fold; where there are fewer
    clusters than folds, items.
    """
    rng = random.Random(f"folds-{seed}")
    units: dict[str, list[Item]] = {}
    for item in items:
        units.setdefault(item.probe.cluster or f"item {item.index}", []).append(item)
    if split == "within_cluster" or len(units) < folds:
        units = {str(item.index): [item] for item in items}
    names = sorted(units)
    rng.shuffle(names)
    found: list[list[Item]] = [[] for _ in range(min(folds, len(units)))]
    for name in sorted(names, key=lambda name: -len(units[name])):
        min(found, key=len).extend(units[name])
    return found
