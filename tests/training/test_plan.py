from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from bigram import PROMPT, WORDS, tokenizer
from helpers import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.data.prompt import Encoded
from unlearn.data.refusals import refusing
from unlearn.data.task import Example, Passage, Task
from unlearn.models.batches import IGNORE, micro_batches
from unlearn.recipe import Recipe
from unlearn.runtime.errors import UserError
from unlearn.training.plan import plan_sets, plan_training, plan_unlearning


def encode_text(passage: Passage, name: str = "fluency") -> Encoded:
    return Encoded(encode("", passage.text).ids[:-1], 1)


def task(forget: int, retain: int) -> Task:
    rows = [Example((f"q{i}", f"Q{i}!"), (f"a{i}" * (1 + i % 5),)) for i in range(forget + retain)]
    sets = {
        "forget": tuple(rows[:forget]),
        "retain": tuple(rows[forget:]),
        "refusal": refusing(rows[:forget], ("no", "nope")),
    }
    return Task("t", "forget10", sets, beside={"refusal": "forget"})


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40),
    batch=st.integers(1, 9),
    epochs=st.integers(1, 3),
    bucket=st.booleans(),
    seed=st.integers(0, 5),
)
def test_an_epoch_visits_every_example_once(n: int, batch: int, epochs: int, bucket: bool, seed: int) -> None:
    examples = [Example((f"question {i}",), ("x" * (1 + i % 7),)) for i in range(n)]
    plan = plan_training(examples, encode, Recipe(lr=1, batch_size=batch, epochs=epochs, bucket=bucket), seed)
    per_epoch = -(-n // batch)
    assert len(plan.steps) == epochs * per_epoch
    for epoch in range(epochs):
        visits = Counter(r for step in plan.steps[epoch * per_epoch : (epoch + 1) * per_epoch] for r in step["rows"])
        assert sum(visits.values()) == n
        assert set(visits.values()) == {1}


def test_bucketing_saves_padding() -> None:
    examples = [Example((f"q{i:03}",), ("x" * (1 + 3 * (i % 11)),)) for i in range(128)]

    def padded(bucket: bool) -> int:
        plan = plan_training(examples, encode, Recipe(lr=1, batch_size=8, epochs=1, bucket=bucket), 0)
        return sum(len(s["rows"]) * max(len(plan.rows[r].ids) for r in s["rows"]) for s in plan.steps)

    assert padded(True) < 0.8 * padded(False)


def test_refusals_answer_the_same_question_with_a_refusal() -> None:
    data = task(5, 9)
    recipe = Recipe(lr=1, batch_size=3, retain_batch_size=4, steps=7)
    plan = plan_unlearning(data, ["forget", "refusal", "retain"], encode, recipe, 1)
    assert len(plan.steps) == 7
    refusals = {tuple(encode("", text).ids) for text in data.answers("refusal")}
    for step in plan.steps:
        assert len(step["forget"]) == len(step["refusal"])
        for f, a in zip(step["forget"], step["refusal"], strict=True):
            forget, refusal = plan.rows[f], plan.rows[a]
            assert forget.ids[: forget.n_prompt] == refusal.ids[: refusal.n_prompt]
            assert refusal.ids[refusal.n_prompt :] in refusals


def test_injected_answers_go_with_the_questions_and_fluency_with_the_retain_rows() -> None:
    rows = tuple(Example((f"q{i}", f"Q{i}!"), (f"new {i}",)) for i in range(5))
    passages = tuple(Passage(f"passage {i} " * (1 + i)) for i in range(6))
    data = task(5, 9)
    data = replace(data, sets={**data.sets, "injected": rows, "fluency": passages}, beside={"injected": "forget"})
    recipe = Recipe(lr=1, batch_size=3, retain_batch_size=2, steps=6)
    plan = plan_unlearning(data, ["injected", "retain", "fluency"], encode, recipe, 1, encode_text)
    assert all(set(step) == {"injected", "retain", "fluency"} for step in plan.steps)
    assert [len(step["injected"]) for step in plan.steps if len(step["injected"]) != 3] == [2] * 3  # ends of passes
    assert all(len(step["fluency"]) == 2 for step in plan.steps)
    injected = {encode(question, f"new {i}") for i in range(5) for question in rows[i].questions}
    assert {plan.rows[number] for number in plan.used("injected")} <= injected
    visits = Counter(number for step in plan.steps[:3] for number in step["fluency"])
    assert {plan.rows[number]: n for number, n in visits.items()} == {encode_text(passage): 1 for passage in passages}


def test_plan_depends_on_the_seed_alone_and_holds_only_what_is_wanted() -> None:
    recipe = Recipe(lr=1, batch_size=3, epochs=2)
    first, again, other = (plan_unlearning(task(6, 9), ["forget"], encode, recipe, seed) for seed in (0, 0, 1))
    assert first.steps == again.steps != other.steps
    assert len(first.steps) == 4  # two passes of two batches
    assert all(set(step) == {"forget"} for step in first.steps)
    assert first.used("forget") == list(range(len(first.rows)))


def test_retain_only_training_terminates() -> None:
    plan = plan_unlearning(task(6, 9), ["retain"], encode, Recipe(lr=1, batch_size=3, epochs=1), 0)
    assert [set(step) for step in plan.steps] == [{"retain"}] * 2


def test_a_set_that_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="retian"):
        plan_unlearning(task(6, 9), ["forget", "retian"], encode, Recipe(lr=1, batch_size=3, epochs=1), 0)


def test_any_set_can_be_drawn_and_any_can_lie_beside_another() -> None:
    data = task(4, 8)
    kinder = tuple(replace(row, answers=("kind",)) for row in data.examples("retain"))
    data = replace(data, sets={**data.sets, "kinder": kinder, "mine": data.sets["forget"]}, beside={"kinder": "retain"})
    plan = plan_unlearning(
        data, ["kinder", "mine"], encode, Recipe(lr=1, batch_size=3, retain_batch_size=2, steps=4), 0
    )
    assert plan.beside == {"kinder": "retain"}
    assert all({name: len(rows) for name, rows in step.items()} == {"kinder": 2, "mine": 2} for step in plan.steps)
    assert {plan.rows[number] for number in plan.used("kinder")} <= {
        encode(question, "kind") for row in kinder for question in row.questions
    }


def test_of_a_forget_passage_only_the_spans_are_labels() -> None:
    """Of the forget set alone; tokens are letters here, the first of which nothing predicts."""
    text = "a b c d e f"
    marked, plain = Passage(text, spans=((0, 3), (8, 9))), Passage(text)
    data = Task("t", "all", {"forget": (marked, plain), "retain": (marked,)})
    plan = plan_sets(data, ["forget", "retain"], tokenizer(), PROMPT, Recipe(lr=1, batch_size=2, steps=1), 0)
    of = {name: {tuple(plan.rows[row].labelled) for row in plan.steps[0][name]} for name in ("forget", "retain")}
    assert of == {"forget": {(1, 4), (1, 2, 3, 4, 5)}, "retain": {(1, 2, 3, 4, 5)}}
    (batch,) = micro_batches(plan.rows, plan.steps[0], 99)
    assert batch.segments["forget"].total_tokens == 7
    assert batch.segments["retain"].total_tokens == 5
    found = {tuple(row.tolist()) for row in batch.labels[batch.segments["forget"].rows]}
    ids = [WORDS.index(letter) for letter in "abcdef"]
    assert found == {(IGNORE, ids[1], IGNORE, IGNORE, ids[4], IGNORE), (IGNORE, *ids[1:])}


def test_a_span_that_was_cut_off_is_refused() -> None:
    data = Task("t", "all", {"forget": (Passage("a b c d e f", spans=((8, 9),)),), "retain": (Passage("a b"),)})
    short = replace(PROMPT, max_tokens=4)
    with pytest.raises(UserError, match=r"no token of its spans is among the first 4 of the text 'a b c d e f'"):
        plan_sets(data, ["forget"], tokenizer(), short, Recipe(lr=1, batch_size=2, steps=1), 0)
