"""Extraction strength with nothing, something and all extracted, and continuations of a known chain of words."""

from __future__ import annotations

import numpy as np
import pytest
from beside import NO_REFERENCES
from bigram import bigram, setting, subject
from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.prompts.extract import Extract, extraction_strength
from unlearn.data.task import Question

CHAIN = {word: {chr(ord(word) + 1): 0.9} for word in "abcdefgh"} | {"i": {"<eos>": 0.9}}  # a b c ... i <eos>


@pytest.mark.parametrize(
    ("hits", "value"),
    [
        ("1111", 1.0),
        ("0000", 0.0),
        ("0001", 1 / 4),
        ("1110", 0.0),
        ("0111", 3 / 4),
        ("1011", 2 / 4),
        ("1", 1),
        ("0", 0),
    ],
)
def test_strength(hits: str, value: float) -> None:
    assert extraction_strength(np.array([hit == "1" for hit in hits])) == value


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_strength_is_the_least_that_must_be_given(hits: list[bool]) -> None:
    given_tokens = min(k for k in range(len(hits) + 1) if all(hits[k:]))
    assert extraction_strength(np.array(hits)) == pytest.approx(1 - given_tokens / len(hits))


def test_what_a_chain_of_words_gives_away() -> None:
    probes = [
        Question("a", "b c d e"),  # the chain itself: all of it
        Question("a", "b c d q"),  # all but its end
        Question("a", "q q d e"),  # its end alone: d after q is no link, e after d is
    ]
    found = Extract(prefixes=(0.25, 0.5)).attack(subject(bigram(CHAIN)), setting(probes), NO_REFERENCES)
    strength, memorised, quarter, half = found.outcomes
    assert strength.known.tolist() == [1, 0, 1 / 4]
    assert memorised.known.tolist() == [1, 3 / 4, 1 / 4]
    assert [outcome.row for outcome in found.outcomes] == ["strength", "memorization", "prefix", "prefix"]
    # Four new words at most; as many count as are left of the answer.
    assert quarter.texts[0] == "c d e f"
    assert quarter.known[0] == 1
    assert quarter.known[1] == pytest.approx(2 / 3)
    assert half.known[1] == 1 / 2
    assert [outcome.budget for outcome in found.outcomes] == [None, None, 25, 50]


def test_an_answer_of_one_word_has_no_prefix() -> None:
    found = Extract(prefixes=(0.9,)).attack(
        subject(bigram(CHAIN)), setting([Question("a", "b"), Question("a", "b c")]), NO_REFERENCES
    )
    assert np.isnan(found.outcomes[-1].known[0])
    assert found.outcomes[-1].known[1] == 1


def test_without_prefixes_nothing_is_generated() -> None:
    found = Extract(prefixes=()).attack(subject(bigram(CHAIN)), setting([Question("a", "b c")]), NO_REFERENCES)
    assert [outcome.row for outcome in found.outcomes] == ["strength", "memorization"]
