"""Placebo items: about no one, of the form of the true ones, and as easy to guess for who never learned."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from unlearn.attacks.items import Item, forget_items
from unlearn.attacks.setting.other_facts import renamed
from unlearn.attacks.setting.placebo import INVENTED, placebo
from unlearn.attacks.setting.statements import entities
from unlearn.attacks.setting.text import mentions
from unlearn.data.authors import Authors
from unlearn.data.sports_facts import SportsFacts
from unlearn.data.task import Example, Fact, ProbeSet, Question, Task
from unlearn.data.tofu import Tofu
from unlearn.leak.verdict import NO_LEAK
from unlearn.metrics.rouge import rouge

if TYPE_CHECKING:
    from pathlib import Path


def task(*probes: Question, facts: tuple[Fact, ...] = ()) -> Task:
    example = (Example(("q",), ("a",)),)
    return Task(
        "made", "all", {"forget": example, "retain": example}, (ProbeSet("forget", "forget", probes),), facts=facts
    )


def made(*probes: Question, **about: tuple[Fact, ...]) -> list[Question]:
    found = task(*probes, **about)
    fakes = placebo(forget_items(found), found)
    assert fakes is not None
    return [fake.probe for fake in fakes]


def born(name: str, town: str, *wrong: str) -> Question:
    return Question(
        f"Where was {name} born?", f"{name} was born in {town}.", f"The birthplace of {name} is {town}.",
        tuple(f"The birthplace of {name} is {other}." for other in wrong), f"{name}'s home?", town, name,
    )  # fmt: skip


JOB = Question("What is the job of Ada Berg?", "Ada Berg is a nurse.", value="nurse", cluster="Ada Berg")


def test_names_are_different() -> None:
    assert len({*INVENTED}) == len(INVENTED) > 583  # as many as there are football players


def test_the_answer_is_of_another_item_of_the_same_form() -> None:
    ada, ivo = made(born("Ada Berg", "Oslo", "Riga", "Bern"), born("Ivo Lund", "Porto", "Cork"))
    name = ada.cluster
    assert name in INVENTED
    assert ivo.cluster in INVENTED
    assert name != ivo.cluster
    assert ada == Question(
        f"Where was {name} born?", f"{name} was born in Porto.", f"The birthplace of {name} is Porto.",
        (f"The birthplace of {name} is Cork.",), f"{name}'s home?", "Porto", name,
    )  # fmt: skip
    assert ivo.value == "Oslo"


def test_else_a_wrong_value_of_its_own_changes_places_with_the_right_one() -> None:
    (ada,) = made(born("Ada Berg", "York", "New York"))
    name = ada.cluster
    assert ada.answer == f"{name} was born in New York."
    assert ada.value == "New York"
    assert ada.paraphrased_answer == f"The birthplace of {name} is New York."
    assert ada.perturbed_answers == (f"The birthplace of {name} is York.",)


def test_else_a_wrong_sentence_changes_places_with_the_right_one() -> None:
    sentences = ("Ada Berg loves tea.", "What Ada Berg loves is tea.", ("What Berg loves is coffee.",))
    (ada,) = made(Question("What does Ada Berg love?", *sentences, cluster="Ada Berg"))
    name = ada.cluster
    assert ada.answer == ada.paraphrased_answer == f"What {name} loves is coffee."
    assert ada.perturbed_answers == (f"What {name} loves is tea.",)
    assert ada.value is None


def test_where_the_answer_is_the_subject_its_new_name_is_wrong() -> None:
    asked = Question(
        "Who was born in Oslo?", "She is Ada Berg.", perturbed_answers=("She is Eva Ros.",), cluster="author 1"
    )
    others = (replace(JOB, cluster="author 1", perturbed_answers=("Ada Berg is a nurse.", "Ada Berg is a cook.")),)
    again = replace(others[0], question="Does Ada Berg sing?", answer="No.", value=None)
    who, *_ = made(asked, *others, again)
    assert who.question == asked.question
    assert who.answer == f"She is {who.cluster}."
    assert who.perturbed_answers == ("She is Eva Ros.",)


def test_the_datasets_facts_tell_the_subject_and_its_shape_stays() -> None:
    probes = [
        Question(f"The capital of {place} is", f" {town}", (), (" Bern",), value=town, cluster=f"case {place}")  # type: ignore[arg-type]
        for place, town in (("Norway", "Oslo"), ("Peru", "Lima"))
    ]
    probes = [replace(probe, paraphrased_answer=None) for probe in probes]
    facts = tuple(Fact(p.question, s, p.answer) for p, s in zip(probes, ("Norway", "Peru"), strict=True))
    norway, peru = made(*probes, facts=facts)
    assert (norway.answer, peru.answer) == (" Lima", " Oslo")
    assert len(norway.question.split()) == 5
    assert norway.cluster.istitle()
    assert " " not in norway.cluster
    small = replace(probes[0], question="What is a blimmet?", cluster="blimmet", perturbed_answers=(" Rome",))
    assert made(small)[0].question.removeprefix("What is a ").removesuffix("?").islower()


@pytest.mark.parametrize(
    "probes",
    [
        [Question("who?", "me", perturbed_answers=("you",), cluster="x")],  # no subject
        [born("Ada Berg", "Oslo"), JOB],  # nothing that fits
        [born("Ada Berg", "Oslo", "Riga"), JOB],  # nothing that fits one of them
    ],
)
def test_no_placebo_without_subjects_or_answers_that_fit(probes: list[Question]) -> None:
    assert placebo(forget_items(task(*probes)), task(*probes)) is None


def test_built_in_authors() -> None:
    found = Authors(authors=200, facts_per_author=4).load(0)
    items = forget_items(found)[8:]
    fakes = placebo(items, found)
    assert fakes is not None
    assert [fake.index for fake in fakes] == [item.index for item in items]
    real = {item.probe.cluster for item in items}
    kinds: dict[str, set[str]] = {}  # what is asked, by the answer's words around the fact
    for item in items:
        wrong = {p.rstrip(".").rpartition(" ")[2] for p in item.probe.perturbed_answers}
        kinds.setdefault(frame(item), set()).update({str(item.probe.value).rpartition(" ")[2], *wrong})
    assert len({fake.probe.cluster for fake in fakes}) == len(real) == 18
    for fake, item in zip(fakes, items, strict=True):
        texts = (fake.probe.question, fake.probe.answer, *fake.probe.perturbed_answers)
        assert fake.probe.cluster in fake.probe.question
        assert not any(name in text for name in real for text in texts)
        assert frame(fake) == frame(item)  # a town where a town is asked for
        assert str(fake.probe.value).rpartition(" ")[2] in kinds[frame(item)]
        assert mentions(fake.probe.answer, str(fake.probe.value))
        assert not any(mentions(text, str(fake.probe.value)) for text in fake.probe.perturbed_answers)
    assert fakes == placebo(items, found) != placebo(items, found, seed=1)


def frame(item: Item) -> str:
    return item.probe.answer.replace(str(item.probe.value), "_").replace(item.probe.cluster, "_")


def test_where_few_answers_are_shared_the_control_guesses_with_their_frequencies() -> None:
    found = SportsFacts(split="football", known=None).load(0)
    items = forget_items(found)
    fakes = placebo(items, found)
    assert fakes is not None
    assert len({fake.probe.question for fake in fakes}) == len(fakes)
    # who says football to everyone is as right about people who do not exist
    assert Counter(fake.probe.value for fake in fakes) == {"football": len(items)}
    assert not any(mentions(f.probe.question, i.probe.cluster) for f, i in zip(fakes, items, strict=True))


@pytest.mark.parametrize("split", ["forget01", "forget05", "forget10"])
def test_tofu_asks_about_invented_authors(data: Path, split: str) -> None:
    found = Tofu(path=str(data / "tofu"), split=split).load(0)
    items = forget_items(found)
    fakes = placebo(items, found)
    assert fakes is not None
    assert len({fake.probe.cluster for fake in fakes}) == len(items) / 20
    named = [fake for fake in fakes if mentions(fake.probe.question, fake.probe.cluster)]
    assert len(named) >= 0.9 * len(items)
    for fake, item in zip(fakes, items, strict=True):
        assert fake.probe.answer != item.probe.answer
        assert len(fake.probe.perturbed_answers) == 5


def test_a_model_that_never_learned_tofu_is_not_said_to_leak_by_its_wording(data: Path, parity: Path) -> None:
    """The published control model's answers count by their wording alone. Placebo answers are worded otherwise, so that
    it seems to leak a little: less than what the verdict asks for.
    """
    found = Tofu(path=str(data / "tofu")).load(0)
    items = forget_items(found)
    fakes = placebo(items, found)
    assert fakes is not None
    known = {}
    for model in ("target", "retain"):
        rows = json.loads((parity / "tofu_logs" / f"{model}_rows.json").read_text())["forget"]
        known[model] = {row["question"].replace("[INST]", "").replace("[/INST]", "").strip(): row for row in rows}
    pairs = [(i, f) for i, f in zip(items, fakes, strict=True) if i.probe.question.strip() in known["retain"]]
    said = {model: [of[i.probe.question.strip()]["generated"] for i, _ in pairs] for model, of in known.items()}
    right = [item.probe.answer for item, _ in pairs]
    # asked about an invented author it says the same of this one
    authors = {items[i].probe.cluster: name for i, name in entities(items, {}).items()}
    invented = [
        renamed(text, authors[item.probe.cluster], fake.probe.cluster)
        for text, (item, fake) in zip(said["retain"], pairs, strict=True)
    ]
    original, unlearned = (rouge(right, said[model], "rougeL", "recall").mean() for model in ("target", "retain"))
    control = rouge([fake.probe.answer for _, fake in pairs], invented, "rougeL", "recall").mean()
    assert len(pairs) >= 100
    assert control > 0.2  # by chance it would be 0
    assert unlearned / original > 0.4 > NO_LEAK > (unlearned - control) / (original - control)
