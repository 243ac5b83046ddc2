from __future__ import annotations

import random
import string

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject

from unlearn.attacks.prompts.perturb import Perturb, by_chance, every
from unlearn.attacks.setting.answer_metric import ask

RNG = random.Random(0)


@pytest.mark.parametrize(("n", "expected"), [(1, "a!b!c!d!e!"), (2, "ab!cd!e"), (3, "abc!de"), (7, "abcde")])
def test_after_every_nth_character(n: int, expected: str) -> None:
    assert every(n)("abcde", "!", RNG) == expected


def test_by_chance_inserts_as_often_as_it_says_and_takes_nothing_away() -> None:
    text = "abcdefghij" * 400
    changed = by_chance(0.2)(text, "random", random.Random(1))
    assert "".join(c for c in changed if c.isalpha()) == text
    marks = [c for c in changed if not c.isalpha()]
    assert len(marks) == pytest.approx(800, abs=100)
    assert set(marks) <= set(string.punctuation)
    assert len(set(marks)) > 20


def test_an_outcome_for_each_seed_and_variant_in_one_order() -> None:
    attack = Perturb(("!", "random"), (2,), (0.5,))
    outcomes = attack.attack(subject(), setting("prob", (0, 7)), NO_REFERENCES).outcomes
    variants = ["! every 2", "! chance 0.5", "random every 2", "random chance 0.5"]
    assert [(o.variant, o.seed) for o in outcomes] == [(v, seed) for seed in (0, 7) for v in variants]
    asked = [item.probe for item in SCORED]
    assert not any(np.allclose(o.known, ask(subject(), setting(), asked).known) for o in outcomes)
    first, again = outcomes[0], outcomes[4]
    assert np.allclose(first.known, again.known)  # nothing is drawn there
    assert not np.allclose(outcomes[1].known, outcomes[5].known)


def test_something_must_be_inserted() -> None:
    with pytest.raises(ValueError, match="nothing would be inserted"):
        Perturb(every=(), chances=())
