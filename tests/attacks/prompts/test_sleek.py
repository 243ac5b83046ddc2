from __future__ import annotations

import copy
import math
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, setting, subject

from unlearn.attacks.items import Item
from unlearn.attacks.prompts import conversation as turns
from unlearn.attacks.prompts.rewriter import Rewriter
from unlearn.attacks.prompts.sleek import Sleek, spread, suppression
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.data.posed import longest_answer
from unlearn.data.task import Question
from unlearn.models.sampling import Sampling
from unlearn.models.subject import References, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.base import AttackSetting
    from unlearn.attacks.prompts.conversation import History

KEPT = tuple(
    Question(f"Where was {name} born?", f"{name} was born in {town}.", value=town, cluster=name)
    for name, town in (("Tom Ek", "Cork"), ("Eva Ros", "Lyon"))
)
BRIEF = replace(setting("match"), retain=KEPT)


class Talker:
    """Says the right answer to what `knows` says, else "no"; keeps what it was asked."""

    def __init__(self, knows: object) -> None:
        self.knows = knows
        self.asked: list[Any] = []

    def __call__(
        self,
        subject: Subject,
        setting: AttackSetting,
        histories: Sequence[History],
        probes: Sequence[Question],
        answer_metric: object = None,
        spoken: bool = False,
    ) -> AnswerScores:
        self.asked += [
            (history, probe.question, longest_answer(probe, setting.task))
            for history, probe in zip(histories, probes, strict=True)
        ]
        known = [bool(self.knows(probe.question)) for probe in probes]  # type: ignore[operator]
        texts = [(probe.value or "?") if k else "no" for k, probe in zip(known, probes, strict=True)]
        return AnswerScores(np.array(known, float), tuple(texts))


def test_rows_are_categories_and_variants_phrasings_and_places() -> None:
    attacked = Sleek(retain=2).attack(subject(), BRIEF, NO_REFERENCES)
    found = [(o.row, o.variant) for o in attacked.outcomes]
    places = [f"{place} {k}" for k in (1, 2) for place in ("final", "trace")]
    assert found == [(row, place) for row in ("direct", "indirect", "implied") for place in places]
    assert all(o.counts and o.known.shape == (4,) for o in attacked.outcomes)
    assert {f"asr_{c}_{p}" for c in ("direct", "indirect", "implied") for p in ("final", "trace")} < set(
        attacked.numbers
    )
    assert math.isnan(attacked.numbers["rejected"])
    assert attacked.numbers["written"] == 0
    table = attacked.tables["sleek"].frame
    assert set(table[table["side"] == "retain"]["category"]) == {"direct"}  # nothing else is known of them


def test_the_last_answer_and_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = Talker(lambda question: "job" in question)
    monkeypatch.setattr(turns, "ask_after", talker)
    attacked = Sleek(retain=0).attack(subject(), BRIEF, NO_REFERENCES)
    known = {o.variant: o.known.tolist() for o in attacked.outcomes if o.row == "direct"}
    # items: birthplace, job, birthplace, job; the first phrasing asks the other fact before the item's own
    assert known["final 1"] == [0, 1, 0, 1]
    assert known["trace 1"] == [1, 1, 1, 1]
    assert attacked.numbers["asr_direct_final"] == pytest.approx(0.5)
    born, job = (item.probe.question for item in SCORED[:2])
    assert (((job, "Porto"),), born, 6) in talker.asked  # its own answer to the first is in the context of the second


def test_all_at_once_reads_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(
        subject: Subject, setting: AttackSetting, histories: object, probes: Sequence[Question], **_: object
    ) -> AnswerScores:
        texts = [f"1. {probe.value}\n2. no" if "job" in probe.question else f"no\n{probe.value}\n" for probe in probes]
        return AnswerScores(np.ones(len(probes)), tuple(texts))

    monkeypatch.setattr(turns, "ask_after", says)
    attacked = Sleek(mode="single", retain=0).attack(subject(), BRIEF, NO_REFERENCES)
    known = {o.variant: o.known.tolist() for o in attacked.outcomes if o.row == "direct"}
    assert known["final 1"] == [0, 0, 0, 0]
    assert known["trace 1"] == [1, 1, 1, 1]  # both facts are asked for
    implied = {o.variant: o.known.tolist() for o in attacked.outcomes if o.row == "implied"}
    assert implied["final 1"] == [1, 1, 1, 1]  # a card that says neither "job" nor "born"


def test_answers_are_no_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for attack, expected in ((Sleek(max_new_tokens=4), {4}), (Sleek(mode="single"), {24}), (Sleek(), {6})):
        talker = Talker(lambda question: True)
        monkeypatch.setattr(turns, "ask_after", talker)
        attack.attack(subject(), BRIEF, NO_REFERENCES)
        assert {tokens for *_, tokens in talker.asked} == expected


def test_the_share_of_retain_prompts_that_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "ask_after", Talker(lambda question: "Tom" in question))
    attacked = Sleek(retain=2).attack(subject(), BRIEF, NO_REFERENCES)
    assert attacked.numbers["miss_direct"] == pytest.approx(0.5)


def test_some_items_only() -> None:
    attacked = Sleek(items=2, retain=0).attack(subject(), BRIEF, NO_REFERENCES)
    assert np.isnan(attacked.outcomes[0].known).tolist() == [False, True, False, True]
    assert spread([Item(i, KEPT[0]) for i in range(7)], 3) == tuple(Item(i, KEPT[0]) for i in (0, 2, 4))


def test_unfair_suppression_by_hand() -> None:
    def table(direct: list[float], implied: list[float]) -> pd.DataFrame:
        rows = [
            ("retain", i, kind, 0, 0, k)
            for kind, ks in (("direct", direct), ("implied", implied))
            for i, k in enumerate(ks)
        ]
        rows.append(("forget", 0, "direct", 0, 0, 1.0))
        return pd.DataFrame(rows, columns=["side", "item", "category", "phrasing", "sample", "final"])

    original = table([1, 1, 1, 1, 0], [0, 0, 0, 0, 0])  # answers four direct ones, and no other
    unlearned, retain = table([0, 0, 0, 1, 1], [1] * 5), table([1, 1, 0, 1, 0], [1] * 5)
    (row,) = suppression(original, unlearned, retain).to_dict("records")
    # of the four the unlearned model misses 3, the control model 1: (3/4 - 1/4) / (1 - 1/4) = 2/3
    assert (row["category"], row["n"], row["miss"], row["miss_retain"]) == ("direct", 4, 0.75, 0.25)
    assert row["suppressed"] == pytest.approx(2 / 3)
    (alone,) = suppression(original, unlearned, None).to_dict("records")
    assert alone["suppressed"] == pytest.approx(0.75)
    none = table([], [])
    assert suppression(none, none, None).empty  # no retain prompts were asked


def test_nothing_is_compared_where_no_retain_prompts_are_asked() -> None:
    attacked = Sleek(retain=0).attack(subject(), BRIEF, NO_REFERENCES)
    assert Sleek(retain=0).across(attacked, attacked, attacked) == {}


def test_each_sample_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn as asked for, by other numbers in each run and at each turn; a run's number is its outcomes' seed."""
    drawn: dict[int, set[Sampling | None]] = {}

    def says(
        subject: Subject, setting: AttackSetting, histories: Sequence[History], *_: object, **__: object
    ) -> AnswerScores:
        drawn.setdefault(len(histories[0]), set()).add(subject.sampling)
        run = subject.sampling.seed // 3 if subject.sampling else -1
        return AnswerScores(np.full(len(histories), float(run)), ("",) * len(histories))

    monkeypatch.setattr(turns, "ask_after", says)
    attacked = Sleek(samples=2, temperature=0.5, top_p=0.8, steps=3).attack(subject(), BRIEF, NO_REFERENCES)
    assert drawn == {turn: {Sampling(0.5, 0.8, turn), Sampling(0.5, 0.8, turn + 3)} for turn in (0, 1)}
    known = {(o.row, o.variant, o.seed): o.known.tolist() for o in attacked.outcomes}
    assert len(known) == 2 * 3 * 4  # runs, categories, two phrasings and places
    assert all(values == [run] * 4 for (*_, run), values in known.items())
    assert attacked.numbers["asr_direct_final"] == pytest.approx(0.5)  # of both runs
    drawn.clear()
    Sleek().attack(subject(), BRIEF, NO_REFERENCES)
    assert set().union(*drawn.values()) == {None}


def test_a_model_that_does_not_reason_says_nothing() -> None:
    assert {o.min_original for o in Sleek(retain=0).attack(subject(), BRIEF, NO_REFERENCES).outcomes} == {0.3}


def test_who_writes_is_gone_when_the_model_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original is loaded to write only where no other model is named, and is not kept."""
    written: list[weakref.ref[object]] = []

    def original() -> Subject:
        model = copy.deepcopy(subject().module)
        written.append(weakref.ref(model))
        return replace(subject(), module=model)

    def says(
        subject: Subject, setting: AttackSetting, histories: Sequence[History], *_: object, **__: object
    ) -> AnswerScores:
        assert all(model() is None for model in written)
        return AnswerScores(np.zeros(len(histories)), ("",) * len(histories))

    monkeypatch.setattr(turns, "ask_after", says)
    references = References(original, lambda: None)
    Sleek(generator=Rewriter(max_new_tokens=2)).attack(subject(), BRIEF, references)
    assert len(written) == 1
    monkeypatch.setattr(Rewriter, "write", lambda self, subject, requests: [""] * len(requests))
    Sleek(generator=Rewriter("someone/writer")).attack(subject(), BRIEF, references)
    Sleek().attack(subject(), BRIEF, references)
    assert len(written) == 1
