"""Forget items: their order and what they ask for."""

from __future__ import annotations

from unlearn.attacks.items import Item, forget_items
from unlearn.data.task import Example, ProbeSet, Question, Task


def test_the_gold_is_the_bare_fact_where_it_is_known() -> None:
    assert Item(0, Question("Where?", "In Oslo.", value="Oslo")).short_answer == "Oslo"
    assert Item(0, Question("Where?", "In Oslo.")).short_answer == "In Oslo."


def test_items_are_the_forget_probes_of_all_sets_in_order() -> None:
    sets = [("a", "forget", "xy"), ("b", "retain", "r"), ("c", "forget", "z"), ("d", "transfer", "t")]
    probes = [ProbeSet(name, role, tuple(Question(q, "a") for q in asked)) for name, role, asked in sets]  # type: ignore[arg-type]
    example = (Example(("q",), ("a",)),)
    found = forget_items(Task("made", "all", {"forget": example, "retain": example}, tuple(probes)))
    assert [(item.index, item.probe.question) for item in found] == [(0, "x"), (1, "y"), (2, "z")]
