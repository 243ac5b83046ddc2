"""Probes of truth on features that hold it, or do not."""

from __future__ import annotations

import pytest
import torch
from bigram import PROMPT, WORDS, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.attacks.internals import truth_probes as truth
from unlearn.attacks.internals.truth_probes import (
    Statements,
    beyond_chance,
    cross_validated,
    right_choices,
    statements,
    truth_scores,
)
from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Question
from unlearn.models.subject import Subject


def asked_in(prompt: PromptFormat) -> Subject:
    """A subject with that prompt, of which no model is asked."""
    return Subject("unlearned", None, tokenizer(), prompt, 1024)  # type: ignore[arg-type]


def made(items: int, options: int = 4) -> Statements:
    item = torch.arange(items).repeat_interleave(options)
    return Statements(((),) * len(item), item, torch.arange(len(item)) % options == 0)


def planted(asked: Statements, seed: int, strength: float = 6.0) -> torch.Tensor:
    """Noise at layer 0; at layer 1 truth lies along (1, -1, 0, ...), far from the origin."""
    features = torch.randn(2, len(asked.true), 12, generator=torch.Generator().manual_seed(seed))
    features[1] += 50
    features[1, asked.true, 0] += strength
    features[1, asked.true, 1] -= strength
    return features


@pytest.mark.parametrize("items", [20, 60])  # 80 statements: difference of means; 240: ridge
def test_what_is_there_is_read(items: int) -> None:
    own, asked = made(items), made(200)
    states = planted(own, 1)
    right = right_choices(truth_scores(states, own.true, planted(asked, 2)), asked).mean(-1)
    assert right[1] == 1
    assert right[0] == pytest.approx(0.25, abs=0.12)
    validated = cross_validated(states, own).mean(-1)
    assert validated[1] == 1
    assert validated[0] < 0.6


def test_few_statements_take_the_difference_of_means() -> None:
    """By hand on one feature of mean 3; the other is constant and has no say."""
    own = made(3, options=2)
    features = torch.tensor([[[0.0, 1], [2, 1], [4, 1], [2, 1], [8, 1], [2, 1]]])
    spread = (sum((x - 3) ** 2 for x in (0, 2, 4, 2, 8, 2)) / 6) ** 0.5
    along = ((0 + 4 + 8) - (2 + 2 + 2)) / 3 / spread
    found = truth_scores(features, own.true, torch.tensor([[[3.0, 1], [5, 1]]]))
    assert found[0].tolist() == pytest.approx([0, (5 - 3) / spread * along])


def test_many_statements_take_the_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    own, features = made(5), torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0))
    few = truth_scores(features, own.true, features)
    monkeypatch.setattr(truth, "FEW", 20)
    many = truth_scores(features, own.true, features)
    assert not torch.allclose(few, many)
    assert many.mean() == pytest.approx(0.25)  # of 0 and 1, a quarter are true


def test_held_out_items_are_not_learnt_by_heart() -> None:
    """Random features of many dimensions: fitted, they say everything; cross-validated, nothing."""
    own = made(40, options=3)
    features = torch.randn(1, 120, 400, generator=torch.Generator().manual_seed(0))
    assert right_choices(truth_scores(features, own.true, features), own).mean() > 0.9
    assert cross_validated(features, own).mean() == pytest.approx(1 / 3, abs=0.25)


def test_choices_and_ties() -> None:
    asked = Statements(((),) * 6, torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1, 0, 0, 0, 1, 1]).bool())
    right = right_choices(torch.tensor([[3.0, 3, 1, 0, 2, 5], [0, 1, 2, 7, 6, 0]]), asked)
    assert right.tolist() == [[0.5, 1, 1], [0, 0, 1]]
    corrected = beyond_chance(right, asked.options)
    assert corrected[0, :2].tolist() == pytest.approx([(1 / 2 - 1 / 3) / (2 / 3), 1])
    assert corrected[0, 2].isnan()
    assert corrected[1, :2].tolist() == pytest.approx([-1 / 2, -1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 99))
def test_permuted_labels_have_one_truth_an_item(options: list[int], seed: int) -> None:
    item = torch.repeat_interleave(torch.arange(len(options)), torch.tensor(options))
    asked = Statements(((),) * len(item), item, torch.zeros(len(item), dtype=torch.bool))
    drawn = asked.permuted(torch.Generator().manual_seed(seed))
    assert [int(drawn[item == i].sum()) for i in range(len(options))] == [1] * len(options)


def test_statements_are_questions_with_an_answer_in_one_wording() -> None:
    probes = [Question("a", "b c", "b d", ("b e", "b f", "b g")), Question("h", "i"), Question("h", "i", None, ("j",))]
    found = statements(asked_in(PROMPT), probes, most=2)
    words = [" ".join(WORDS[i] for i in ids) for ids in found.ids]
    assert words == ["a b d", "a b e", "a b f", "h i", "h i", "h j"]
    assert found.item.tolist() == [0, 0, 0, 1, 2, 2]
    assert found.options.tolist() == [3, 1, 2]
    assert found.true.tolist() == [True, False, False, True, True, False]
    ended = statements(asked_in(PromptFormat(chat_template=False, answer_start=" ")), probes, most=2)
    assert ended.ids == found.ids  # EOS is no part of a statement
