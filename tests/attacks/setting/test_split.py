"""Who is asked what: no item, person or answer on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.setting.split import split_items
from unlearn.attacks.setting.text import mentions
from unlearn.data.task import Example, ProbeSet, Question, Task
from unlearn.data.tofu import Tofu
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.attacks.items import Split


def task(values: list[str], clusters: list[str], answer: str = "It is {}.") -> Task:
    rows = enumerate(zip(values, clusters, strict=True))
    probes = tuple(
        Question(f"what of {c}, item {i}?", answer.format(v), value=v if "{}" in answer else None, cluster=c)
        for i, (v, c) in rows
    )
    example = (Example(("q",), ("a",)),)
    return Task("made", "all", {"forget": example, "retain": example}, (ProbeSet("forget", "forget", probes),))


def values(n: int, kinds: int | None = None) -> list[str]:
    return [f"v{i % (kinds or n)}" for i in range(n)]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30)), min_size=8, max_size=60),
    st.sampled_from(["across_cluster", "within_cluster"]),
    st.integers(0, 5),
)
def test_nothing_is_on_both_sides(rows: list[tuple[str, int]], split: Split, seed: int) -> None:
    made = task([f"v{value}" for _, value in rows], [cluster for cluster, _ in rows])
    try:
        found = split_items(made, split=split, min_items=2, seed=seed)
    except UserError:
        return
    taught, scored = ({item.index for item in side} for side in (found.attacker_items, found.held_out_items))
    assert taught
    assert not taught & scored
    assert found == split_items(made, split=split, min_items=2, seed=seed)
    if split == "across_cluster" and not any("one subject" in note for note in found.notes):
        assert not {i.probe.cluster for i in found.attacker_items} & {i.probe.cluster for i in found.held_out_items}
    if not any("shared by many" in note for note in found.notes):
        assert not {i.short_answer for i in found.attacker_items} & {i.short_answer for i in found.held_out_items}


def test_a_quarter_is_the_attackers() -> None:
    found = split_items(task(values(40), [str(i // 2) for i in range(40)]))
    assert (len(found.attacker_items), len(found.held_out_items)) == (10, 30)
    within = split_items(task(values(40), [str(i // 4) for i in range(40)]), split="within_cluster")
    assert len(within.attacker_items) == 10
    assert len({item.probe.cluster for item in within.attacker_items}) == 10


def test_answers_of_few_kinds_stay() -> None:
    found = split_items(task(values(30, 3), [str(i) for i in range(30)]))
    assert len(found.attacker_items) + len(found.held_out_items) == 30
    assert "shared by many items" in found.notes[0]


@pytest.mark.parametrize("split", ["across_cluster", "within_cluster"])
def test_items_whose_answer_the_attacker_is_told_in_passing_are_left_out(split: Split) -> None:
    """Nobody's answer is another's, but all answers say "near v0", and all questions have "item"."""
    wanted = [f"v{i}" for i in range(20)]
    probes = tuple(
        Question(f"what of c{i // 2}, item?", f"It is {v}, near v0.", value=v, cluster=f"c{i // 2}")
        for i, v in enumerate(wanted)
    )
    example = (Example(("q",), ("a",)),)
    made = Task("made", "all", {"forget": example, "retain": example}, (ProbeSet("forget", "forget", probes),))
    seen = set()
    for seed in range(6):
        found = split_items(made, split=split, seed=seed)
        scored = {item.short_answer for item in found.held_out_items}
        taught = {item.short_answer for item in found.attacker_items}
        assert scored == {*wanted} - taught - {"v0"}
        seen.add("v0" in taught)
        assert (f"1 of {20 - len(taught)} held-out items" in "".join(found.notes)) == ("v0" not in taught)
    assert False in seen


@pytest.mark.parametrize("split", ["across_cluster", "within_cluster"])
def test_real_sentences_whose_gist_the_attacker_has_are_left_out(data: Path, split: Split) -> None:
    found = split_items(Tofu(path=str(data / "tofu"), split="forget05").load(0), split=split)
    told = [f"{item.probe.question} {item.probe.answer}" for item in found.attacker_items]
    assert len(found.held_out_items) >= 0.8 * (200 - len(found.attacker_items))
    assert "are left out" in found.notes[-1]
    for item in found.held_out_items:
        assert not any(mentions(text, item.short_answer) for text in told)
    if split == "within_cluster":  # the attacker's other questions name the person
        who = [item for item in found.held_out_items if item.probe.question.startswith("What is the full name")]
        people = {item.probe.cluster for item in (*found.attacker_items, *found.held_out_items)}
        assert len(who) < len(people) / 2


def test_only_so_many_items() -> None:
    found = split_items(task(values(40), [str(i // 4) for i in range(40)]), limit=16)
    assert len(found.attacker_items) + len(found.held_out_items) == 16


def test_too_few_items() -> None:
    with pytest.raises(UserError, match="2 forget items leave"):
        split_items(task(["x", "y"], ["a", "a"]))
    example = (Example(("q",), ("a",)),)
    with pytest.raises(UserError, match="no forget probes"):
        split_items(Task("made", "all", {"forget": example, "retain": example}, ()))
