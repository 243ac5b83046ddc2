from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from beside import NO_REFERENCES
from black_box import SCORED, person, setting, subject
from helpers import retaining

from unlearn.attacks.base import AttackSetting, Inapplicable
from unlearn.attacks.prompts import multihop
from unlearn.attacks.prompts.multihop import Multihop
from unlearn.attacks.setting.answer_metric import AnswerScores
from unlearn.attacks.setting.other_facts import Related
from unlearn.data.task import Example, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.subject import Subject

OLE = person(6, "Ole Ness", "Riga", "nurse")  # a nurse, as is Ivo Lund; only Ivo Lund was born in Porto


def facts(of: AttackSetting) -> multihop._Facts:
    return multihop._Facts(Related.forgotten(of), Related.kept(of))


def test_a_bridge_is_true_of_nobody_else() -> None:
    twins = replace(setting(), held_out_items=(*SCORED, *OLE))
    chains = {item.index: chain for item in twins.held_out_items if (chain := facts(twins).two(item))}
    # neither Ivo Lund's nor Ole Ness's birthplace can be asked by the job, and Mia Kask's Lyon is also Eva Ros's
    assert {i: chain.composed.question.partition(". ")[0] for i, chain in chains.items()} == {
        3: "X was born in Porto",
        4: "X works as a tailor",
        7: "X was born in Riga",
    }
    assert chains[3].composed.question == "X was born in Porto. What is the job of X?"
    assert [probe.value for probe in chains[3].hops] == ["Ivo Lund", "nurse"]
    assert chains[3].hops[0].question == "X was born in Porto. Who or what is X?"


def test_a_third_hop_goes_by_an_answer_that_two_share() -> None:
    """Ole Ness and Ivo Lund alone are nurses: one leads to the other. Eva Ros was born where Mia Kask was, but nothing
    else tells who she is, until a fact of her own does.
    """
    twins = replace(setting(), held_out_items=(*SCORED, *OLE))
    chains = {item.index: chain for item in twins.held_out_items if (chain := facts(twins).three(item))}
    assert {i: chain.composed.question for i, chain in chains.items()} == {
        2: 'Y was born in Riga. Asked "What is the job of Y?", one says the same of X as of Y. Where was X born?',
        6: 'Y was born in Porto. Asked "What is the job of Y?", one says the same of X as of Y. Where was X born?',
    }
    who, same, last = chains[2].hops
    assert (who.question, who.value) == ("Y was born in Riga. Who or what is Y?", "Ole Ness")
    assert same.question == 'Asked "What is the job of Ole Ness?", of whom does one say the same?'
    assert same.value == "Ivo Lund"
    assert last == SCORED[0].probe

    row = Example(("What does Eva Ros collect?",), ("Eva Ros collects stamps.",), "Eva Ros")
    known = replace(twins, task=retaining(twins.task, *twins.task.examples("retain"), row))
    (job,) = [item for item in known.held_out_items if item.index == 5]
    chain = facts(known).three(job)
    assert chain is not None
    assert chain.hops[0].value == "Eva Ros"
    assert chain.hops[1].value == "Mia Kask"
    assert chain.composed.question.startswith("Y collects stamps. Asked")
    assert chain.composed.question.endswith("What is the job of X?")


def test_hops_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(
        subject: Subject, setting: AttackSetting, probes: Sequence[Question], answer_metric: object = None
    ) -> AnswerScores:
        if answer_metric == "match":
            assert all(probe.question.endswith("Who or what is X?") for probe in probes)
            assert [probe.value for probe in probes] == ["Ivo Lund", "Ivo Lund", "Mia Kask"]
            return AnswerScores(np.array([1.0, 1, 0]), ("",) * 3)
        composed = probes[0].question == "X works as a nurse. Where was X born?"
        assert composed or probes[0] == SCORED[0].probe
        return AnswerScores(np.array([1.0, 0, 0] if composed else [1.0, 1, 1]), ("said",) * 3)

    monkeypatch.setattr(multihop, "ask", ask)
    attacked = Multihop().attack(subject(), setting("match"), NO_REFERENCES)
    expected = {"hop_1": 2 / 3, "hop_2": 1, "composed": 1 / 3, "composed_given_all": 1 / 2}
    assert attacked.numbers == pytest.approx({f"2_hops_{name}": value for name, value in expected.items()})
    (outcome,) = attacked.outcomes
    assert outcome.known[:3].tolist() == [1, 0, 0]
    assert np.isnan(outcome.known[3])
    assert not outcome.counts
    assert outcome.row == "2"


def test_both_numbers_of_hops_are_asked() -> None:
    twins = replace(setting("match"), held_out_items=(*SCORED, *OLE))
    attacked = Multihop().attack(subject(), twins, NO_REFERENCES)
    assert [(outcome.row, np.isfinite(outcome.known).tolist()) for outcome in attacked.outcomes] == [
        ("2", [False, True, True, False, False, True]),
        ("3", [True, False, False, False, True, False]),
    ]
    assert attacked.tables["hops"].frame["hops"].tolist() == [2, 2, 2, 3, 3]
    assert attacked.tables["hops"].frame["hop_3"].notna().tolist() == [False] * 3 + [True] * 2


def test_single_facts_cannot_be_composed() -> None:
    with pytest.raises(Inapplicable, match="no two facts"):
        Multihop().attack(subject(), replace(setting(), held_out_items=(SCORED[0], SCORED[2])), NO_REFERENCES)
