"""How well an attacker thinks that it does, from its own items alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unlearn.attacks.setting.answer_metric import ask, evaluate_attacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.attacks.base import AttackSetting, Outcome
    from unlearn.attacks.items import Item
    from unlearn.models.subject import Subject

TIE = 1e-3  # weight of the likelihood in an attacker's estimate: it decides between equal K alone


def evaluate_with_estimate(subject: Subject, setting: AttackSetting, variant: str, **about: object) -> Outcome:
    """Return what `evaluate_attacked` does, with the attacker's own estimate of success.

    self_estimate = mean K of the attacker's items + 1e-3 * mean probability of their answers.

    A perturbation that was optimised on these items soon has all of them right: then the surer one is the better.
    """
    outcome = evaluate_attacked(subject, setting, variant, with_attacker_items=True, **about)  # type: ignore[arg-type]
    sure = ask(subject, setting, [item.probe for item in setting.attacker_items], "prob").known
    assert outcome.on_attacker_items is not None
    return replace(outcome, self_estimate=outcome.on_attacker_items + TIE * float(np.nanmean(sure)))


def self_estimate(subject: Subject, setting: AttackSetting, validation_items: Sequence[Item]) -> float:
    """Return how well an attacker thinks it did, by its own items: mean K; of equal ones, likelier answers win."""
    probes = [item.probe for item in validation_items]
    known = np.nanmean(ask(subject, setting, probes).known)
    return float(known + TIE * np.nanmean(ask(subject, setting, probes, "prob").known))
