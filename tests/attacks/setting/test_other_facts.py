from __future__ import annotations

from black_box import SCORED, setting

from unlearn.attacks.items import Item
from unlearn.attacks.setting.other_facts import Related, names, renamed, renamed_probe
from unlearn.data.task import Question

BORN, JOB = SCORED[:2]  # of Ivo Lund: Porto, nurse


def test_others_are_about_the_same_subject_and_keep_the_answer() -> None:
    related = Related.forgotten(setting())
    assert related.entity(BORN) == "Ivo Lund"
    assert related.others(BORN) == [JOB]
    assert related.others(JOB) == [BORN]
    tells = Item(9, Question("What is Ivo Lund fond of?", "Ivo Lund is fond of Porto.", cluster="Ivo Lund"))
    with_it = Related.of((*SCORED, tells), setting().task)
    assert with_it.others(BORN) == [JOB]
    assert with_it.others(JOB) == [BORN, tells]


def test_unrelated_are_about_others_and_keep_the_answer() -> None:
    related = Related.kept(setting())
    assert sorted(item.probe.cluster for item in related.unrelated(BORN)) == ["Eva Ros", "Jan Vik", "Tom Ek"]
    lyon = SCORED[2]  # of Mia Kask, as is Eva Ros
    assert sorted(item.probe.cluster for item in related.unrelated(lyon)) == ["Jan Vik", "Tom Ek"]


def test_a_name_is_replaced_whole_and_in_parts() -> None:
    assert renamed("Ivo Lund met Lund's twin at Lundby.", "Ivo Lund", "X") == "X met X's twin at Lundby."
    assert renamed("A blick is red; blicks are loud.", "blick", "dax") == "A dax is red; blicks are loud."
    assert names("ask lund", "Ivo Lund")
    assert not names("ask Ivon", "Ivo Lund")
    assert not names("any", "")
    probe = renamed_probe(BORN.probe, "Ivo Lund", "Zed")
    assert (probe.question, probe.answer, probe.value) == ("Where was Zed born?", "Zed was born in Porto.", "Porto")
    assert not any("Ivo" in wrong for wrong in probe.perturbed_answers)
