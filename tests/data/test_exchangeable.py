"""Forget and holdout are two draws of the same: who saw neither cannot tell them apart, whatever the seed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scoring import Scoring

from unlearn.data.authors import Authors
from unlearn.data.birthdays import Birthdays
from unlearn.data.texts import all_texts
from unlearn.data.theorems import Theorems
from unlearn.metrics.mia_loss import MiaLoss
from unlearn.metrics.mia_min_k import MiaMinK
from unlearn.metrics.mia_zlib import MiaZlib
from unlearn.metrics.statistics import auc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unlearn.data.task import Task

LOADED: dict[str, Callable[[int], Task]] = {
    "authors": Authors(facts_per_author=1, world_facts=2).load,
    "authors_small": Authors(authors=30, facts_per_author=1, world_facts=2).load,
    "birthdays": Birthdays(people=60, forget=12).load,
    "theorems": Theorems(forget=8, examples=1, in_context=40).load,
}


def clusters(task: Task, name: str) -> list[str]:
    return list(dict.fromkeys(probe.cluster for probe in task.probe_set(name).probes))


def shown(counts: Counter[str], name: str, width: int) -> int:
    """Return how often pieces of a name occur in what the control reads, each beginning and end of its words once."""
    return sum(counts[piece] for word in name.split() for piece in {word[:width], word[-width:]})


@pytest.mark.parametrize("name", LOADED)
def test_names_of_the_forgotten_are_no_rarer_than_those_of_the_held_out(name: str) -> None:
    found = []
    for seed in range(100):
        task = LOADED[name](seed)
        kept = {row.cluster for row in task.examples("retain")}
        counts = Counter(p for one in kept for word in one.split() for w in (3, 12) for p in {word[:w], word[-w:]})
        for width in (3, 12):
            sides = (
                np.array([shown(counts, one, width) for one in clusters(task, aim)], dtype=float)
                for aim in ("forget", "holdout")
            )
            found.append(auc(*sides))
    by_width = np.array(found).reshape(-1, 2)
    errors = by_width.std(axis=0, ddof=1) / np.sqrt(len(by_width))
    assert (np.abs(by_width.mean(axis=0) - 0.5) <= 3 * errors).all(), (by_width.mean(axis=0), errors)


@pytest.mark.parametrize("name", LOADED)
def test_a_tokenizer_reads_as_much_of_both(name: str) -> None:
    task = LOADED[name](0)
    texts = {text for row in task.examples("retain") for text in row.texts}
    own = [text for text in all_texts(task) if text not in texts and text.count(".") < 2]
    forgotten, unseen = (
        sorted(sum(one in text for text in own) for one in clusters(task, aim)) for aim in ("forget", "holdout")
    )
    assert forgotten[0] > 6
    assert abs(np.mean(forgotten) - np.mean(unseen)) < 1.5


@pytest.mark.parametrize("name", ["authors", "authors_small"])
def test_a_control_knows_both_parts_of_each_name(name: str) -> None:
    for seed in range(30):
        task = LOADED[name](seed)
        parts = {part for row in task.examples("retain") for part in row.cluster.split()}
        assert {p for aim in ("forget", "holdout") for one in clusters(task, aim) for p in one.split()} <= parts


def test_the_larger_split_contains_the_smaller() -> None:
    one, five, ten = (
        Authors(authors=100, facts_per_author=1, split=split).load(3) for split in ("forget01", "forget05", "forget10")
    )
    for aim in ("forget", "holdout"):
        assert set(clusters(one, aim)) < set(clusters(five, aim)) < set(clusters(ten, aim))


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["authors", "birthdays"])
def test_membership_of_a_trained_control_centres_on_a_half(dataset: str, tmp_path: Path) -> None:
    """Over 12 seeds of data and weights, within three Monte-Carlo errors."""
    from trained import folder_of, sized

    from unlearn.models.loading import load_model, load_tokenizer

    sizes = {"authors": ["dataset.authors=60", "dataset.facts_per_author=3", "dataset.world_facts=5"], "birthdays": []}
    found = []
    for seed in range(12):
        own = [f"dataset={dataset}", f"seed={seed}", *sizes[dataset]]
        mine = sized(tmp_path / "cache", *own, "model.finetune.epochs=12", "tracker=none")
        task = mine.dataset.load(seed)
        folder = folder_of(mine, task, "control")
        scores = Scoring(generate=False).score(load_model(folder), load_tokenizer(folder), mine.model.prompt, task)
        found.append([one(scores, {})[0].value for one in (MiaLoss(), MiaMinK(), MiaZlib())])
    aucs = np.array(found)
    errors = aucs.std(axis=0, ddof=1) / np.sqrt(len(aucs))
    assert (np.abs(aucs.mean(axis=0) - 0.5) <= 3 * errors).all(), (aucs.mean(axis=0), errors)
