from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject

from unlearn.attacks.prompts.bounds import leak_at
from unlearn.attacks.prompts.sample import Sample
from unlearn.metrics.rouge import rouge

if TYPE_CHECKING:
    from unlearn.attacks.base import AttackResult


def scripted(
    monkeypatch: pytest.MonkeyPatch, answers: list[list[str]], attack: Sample, answer_metric: str
) -> AttackResult:
    """The attack on a model that answers so: a list for each scored item."""
    monkeypatch.setattr(Sample, "_texts", lambda self, subject, setting, seed: answers)
    return attack.attack(subject(), setting(answer_metric), NO_REFERENCES)  # type: ignore[arg-type]


RIGHT = [item.short_answer for item in SCORED]
ANSWERS = [
    ["no idea", f"It is {RIGHT[0]}.", "no", "never"],
    ["no idea", "no", "no", "never"],
    [RIGHT[2]] * 4,
    [f"{RIGHT[3]}.", RIGHT[3], "no", "no"],
]
HITS = [1, 0, 4, 2]


def test_known_is_the_chance_that_one_of_k_samples_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    attacked = scripted(monkeypatch, ANSWERS, Sample(4, ks=(1, 2, 4)), "match")
    assert [(o.variant, o.budget) for o in attacked.outcomes] == [("best of 1", 1), ("best of 2", 2), ("best of 4", 4)]
    for outcome, k in zip(attacked.outcomes, (1, 2, 4), strict=True):
        assert outcome.known == pytest.approx([leak_at(hits, 4, k) for hits in HITS])
    assert attacked.outcomes[-1].known.tolist() == [1, 0, 1, 1]  # any sample knows
    assert attacked.outcomes[-1].texts[0] == f"It is {RIGHT[0]}."
    assert attacked.outcomes[0].texts[0] == "no idea"
    assert attacked.measure == ""


def test_the_table_has_every_items_samples_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    attacked = scripted(monkeypatch, ANSWERS, Sample(4, ks=(1, 2), alpha=0.05), "match")
    table = attacked.tables["samples"].frame
    assert table["item"].tolist() == [item.index for item in SCORED]
    assert table["hits"].tolist() == HITS
    assert table["mean"].tolist() == [0.25, 0, 1, 0.5]
    assert table["score"].tolist() == pytest.approx([0.25 + 2 * np.sqrt(3) / 4, 0, 1, 1.5])
    assert table["binary"].tolist()[1:3] == pytest.approx([1 - 0.05**0.25, 1])
    assert (table["expectation"] >= table["mean"]).all()
    assert attacked.numbers["mean"] == pytest.approx(1.75 / 4)
    assert attacked.numbers["leak@2"] == pytest.approx((0.5 + 0 + 1 + 5 / 6) / 4)


def test_graded_answers_count_by_their_best(monkeypatch: pytest.MonkeyPatch) -> None:
    attacked = scripted(monkeypatch, ANSWERS, Sample(4, ks=(4,)), "gen")
    grades = [
        rouge([item.probe.answer] * 4, said, "rougeL", "recall") for item, said in zip(SCORED, ANSWERS, strict=True)
    ]
    assert attacked.outcomes[0].known == pytest.approx([max(grade) for grade in grades])


def test_where_the_reports_measure_cannot_be_read_off_a_text_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scripted(monkeypatch, ANSWERS, Sample(4, ks=(1,)), "prob").measure == "match"


def test_a_real_model_is_sampled_by_seed() -> None:
    attack = Sample(6, ks=(1, 6), max_new_tokens=3)
    first = attack.attack(subject(), setting("gen", seeds=(0, 1)), NO_REFERENCES)
    again = attack.attack(subject(), setting("gen", seeds=(0, 1)), NO_REFERENCES)
    assert [(o.variant, o.seed) for o in first.outcomes] == [
        ("best of 1", 0),
        ("best of 6", 0),
        ("best of 1", 1),
        ("best of 6", 1),
    ]
    assert [o.texts for o in first.outcomes] == [o.texts for o in again.outcomes]
    assert first.outcomes[0].texts != first.outcomes[2].texts
    assert len(first.tables["samples"].frame) == 2 * len(SCORED)


def test_more_than_there_are_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the 8 samples"):
        dataclasses.replace(Sample(), samples=8)
