"""Membership inference: scores of three tokens worked out by hand, which way the AUC goes, and PrivLeak."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from beside import NO_REFERENCES, beside
from bigram import WORDS, bigram, random_llama, setting, subject, tokenizer
from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.base import Inapplicable, Outcome
from unlearn.attacks.prompts.membership import DRAWS, Membership, balanced, membership_gap, placements
from unlearn.data.task import Question
from unlearn.leak.bounds import Sums
from unlearn.leak.crossfit import Candidates, estimate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# After "a", "b" and "c" one word has this probability, the 17 others share the rest.
SHARE = {"a": 0.5, "b": 0.9, "c": 0.2}
assert len(WORDS) == 18
MODEL = {word: {chr(ord(word) + 1): share} for word, share in SHARE.items()}


def standardised(share: float, hit: bool) -> float:
    """Z of the likely word (hit) or of another, where one word has `share` and 17 have the rest, equally."""
    other = (1 - share) / 17
    mean = share * math.log(share) + 17 * other * math.log(other)
    var = share * math.log(share) ** 2 + 17 * other * math.log(other) ** 2 - mean**2
    return (math.log(share if hit else other) - mean) / math.sqrt(var)


def test_three_tokens_by_hand() -> None:
    """ "b c d" after "a" takes the likely word every time, "b c e" all but the last time."""
    held = [Question("a", "b c e")]
    found = Membership(k=0.5).attack(
        subject(bigram(MODEL)), setting([Question("a", "b c d")], holdout=held), NO_REFERENCES
    )
    table = found.tables["membership"].frame.set_index(["signal", "role"])["score"]
    logps = [math.log(0.5), math.log(0.9), math.log(0.2)]
    rare = math.log(0.8 / 17)
    assert table["loss", "forget"] == pytest.approx(-sum(logps) / 3, rel=1e-5)
    assert table["loss", "holdout"] == pytest.approx(-(logps[0] + logps[1] + rare) / 3, rel=1e-5)
    assert table["min_k", "forget"] == pytest.approx(-logps[2], rel=1e-5)  # floor(0.5 x 3) = 1 token
    assert table["min_k", "holdout"] == table["privleak", "holdout"] == pytest.approx(-rare, rel=1e-5)
    z = sorted([standardised(0.5, True), standardised(0.9, True), standardised(0.2, True)])
    assert table["min_k_plus_plus", "forget"] == pytest.approx(-z[0], rel=1e-4)
    worst = min(z[0], standardised(0.2, False))
    assert table["min_k_plus_plus", "holdout"] == pytest.approx(-worst, rel=1e-4)
    assert [outcome.variant for outcome in found.outcomes] == [
        signal for signal in Membership().signals if signal != "reference" for _ in range(DRAWS)
    ]
    known = signals(found.outcomes)
    assert known["loss"] == known["min_k"] == [1.0]
    assert found.measure == "AUC"


def signals(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """K of each row by signal, mean over the draws of holdout rows."""
    names = dict.fromkeys(outcome.variant for outcome in outcomes)
    return {name: np.mean([o.known for o in outcomes if o.variant == name], axis=0).tolist() for name in names}


def test_memorised_rows_have_an_auc_of_one_and_unlearned_ones_of_nought() -> None:
    forget, held = (
        [Question("a", "b c d"), Question("b", "c d")],
        [Question("a", "e f"), Question("b", "g"), Question("c", "a b")],
    )
    turned = setting(held[:2], holdout=forget)  # what is badly known as the forget set
    for facts, value in ((setting(forget, holdout=held), 1.0), (turned, 0.0)):
        found = Membership(("loss", "min_k")).attack(subject(bigram(MODEL)), facts, NO_REFERENCES)
        assert all(outcome.known.mean() == value for outcome in found.outcomes)
        assert found.numbers["loss_auc"] == value
        low, high = found.numbers["loss_auc_low"], found.numbers["loss_auc_high"]
        assert low < high
        assert value in (low, high)  # two rows and three make nothing certain


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_placements_are_counts_of_pairs(members: list[int], others: list[int]) -> None:
    expected = [np.mean([(o > m) + (o == m) / 2 for o in others]) for m in members]
    found = placements(np.array([*members, np.nan]), np.array([*others, np.nan], dtype=float))
    assert found[:-1] == pytest.approx(expected)
    assert np.isnan(found[-1])


@given(st.integers(1, 30), st.integers(1, 6))
def test_draws_use_each_row_as_often(n: int, draws: int) -> None:
    drawn = balanced(n, draws)
    assert drawn.shape == (draws, n)
    assert (np.bincount(drawn.ravel(), minlength=n) == draws).all()


def test_the_error_counts_the_holdout_rows_too() -> None:
    """Every forget row lies below half of 16 holdout rows: the AUC is a half, with the error of a share of 16 alone."""
    members, others = np.full(20, 0.5), np.repeat([0.0, 1.0], 8)
    known = np.stack([placements(members, others[draw]) for draw in balanced(16)])[None]
    candidates = Candidates(np.ones_like(known), known, np.zeros_like(known))
    clusters = [str(i) for i in range(20)]
    found = estimate(candidates, clusters)
    sums = Sums.of(found.read, clusters, resampled=True)
    error = math.sqrt(sums.seeds[0, 0]) / found.read.times.sum()
    assert found.leak == pytest.approx(0.5)
    assert error == pytest.approx(math.sqrt(0.5 * 0.5 / 16), rel=0.35)  # 15 draws tell an error to a fifth or so


def table(forget: list[float], holdout: list[float], signals: tuple[str, ...] = ("loss", "privleak")) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"signal": signal, "role": role, "row": i, "about": f"{role} {i}", "score": score}
            for signal in signals
            for role, scores in (("forget", forget), ("holdout", holdout))
            for i, score in enumerate(scores)
        ]
    )


def test_privleak_by_hand() -> None:
    """AUC 7/8 against 4/8; memorised rows near -100; alike, 0."""
    mine, never = table([1, 2, 3, 4], [3.5, 5]), table([3, 4, 5, 6], [3.5, 5.5])
    gap = membership_gap(mine, never)
    assert gap["privleak"] == pytest.approx(100 * ((1 - 7 / 8) - (1 - 4 / 8)) / (1 - 4 / 8))
    assert gap["loss_gap"] == pytest.approx(3 / 8)
    alike = membership_gap(never, never)
    assert (alike["privleak"], alike["privleak_high"], alike["loss_gap"], alike["loss_detectable"]) == (0, 0, 0, 0)
    known = membership_gap(table([0.1, 0.2], [3.0, 4.0]), table([3.0, 5.0], [4.0, 4.5]))
    assert known["privleak"] == pytest.approx(-100)


@pytest.mark.parametrize("side", [1, -1])
def test_rows_are_given_away_on_either_side(side: int) -> None:
    rng = np.random.default_rng(0)
    never = table(list(rng.normal(size=40)), list(rng.normal(size=40)))
    mine = table(list(rng.normal(size=40) - 2 * side), list(rng.normal(size=40)))
    gap = membership_gap(mine, never)
    assert gap["loss_detectable"] == 1
    assert np.sign(gap["loss_gap_low"]) == np.sign(gap["loss_gap_high"]) == side
    noise = table(list(rng.normal(size=40)), list(rng.normal(size=40)))
    assert membership_gap(noise, never)["loss_detectable"] == 0


def test_a_row_that_has_no_score_counts_for_neither_model() -> None:
    full, holes = table([1, 2, 9], [3, 4]), table([1, 2, math.nan], [3, 4])
    assert membership_gap(full, holes)["loss_gap"] == 0


def test_a_reference_model_is_taken_away(tmp_path: Path) -> None:
    """The reference finds all rows alike: its loss, log 18 a token, leaves the order as it is; itself is all alike."""
    from unlearn.models.loading import save_model

    save_model(random_llama(), tokenizer(), tmp_path)
    facts = setting([Question("a", "b c d")], holdout=[Question("a", "b c e")])
    attack = Membership(("loss", "reference"), against=str(tmp_path))
    found = attack.attack(subject(random_llama()), facts, NO_REFERENCES)
    known = signals(found.outcomes)
    assert list(known) == ["loss", "reference"]
    assert known["reference"] == [0.5]
    scores = found.tables["membership"].frame.set_index("signal")["score"]
    assert scores["reference"].tolist() == [0.0, 0.0]
    assert (scores["loss"] > 0).all()


def test_the_control_model_is_the_reference_where_no_other_is_named() -> None:
    """Loss minus the control model's, by hand; the control model tells nothing beside itself."""
    facts = setting([Question("a", "b c d")], holdout=[Question("a", "b c e")])
    control = subject(bigram({"c": {"d": 0.8}}), part="control")
    loaded = beside(control=control)
    mine = Membership(("loss", "reference")).attack(subject(bigram(MODEL)), facts, loaded)
    scores = mine.tables["membership"].frame.set_index(["signal", "role"])["score"]
    never = {"forget": 2 * math.log(18) - math.log(0.8), "holdout": 2 * math.log(18) - math.log(0.2 / 17)}
    for role, loss in never.items():
        assert scores["reference", role] == pytest.approx(scores["loss", role] - loss / 3, rel=1e-5)
    assert signals(Membership(("reference",)).attack(control, facts, loaded).outcomes)["reference"] == [0.5]


def test_without_a_model_to_compare_with() -> None:
    facts = setting([Question("a", "b")], holdout=[Question("a", "c")])
    found = Membership(("loss", "reference")).attack(subject(bigram(MODEL)), facts, NO_REFERENCES)
    assert {outcome.variant for outcome in found.outcomes} == {"loss"}
    with pytest.raises(Inapplicable, match="no model to compare with"):
        Membership(("reference",)).attack(subject(bigram(MODEL)), facts, NO_REFERENCES)
    with pytest.raises(ValueError, match="which signals leaves out"):
        Membership(("loss",), against="some-model")


def test_without_rows_that_no_model_saw() -> None:
    with pytest.raises(Inapplicable, match="'toy' has no holdout set"):
        Membership().attack(subject(bigram(MODEL)), setting([Question("a", "b")]), NO_REFERENCES)


def test_the_model_is_left_as_it_was() -> None:
    model = bigram(MODEL).requires_grad_(False)
    Membership().attack(subject(model), setting([Question("a", "b c")], holdout=[Question("b", "c")]), NO_REFERENCES)
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not model.training
