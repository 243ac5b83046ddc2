"""How well an attacker thinks that it does, from its own items alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unlearn.attacks.base import Brief, Outcome, Suspect
from unlearn.attacks.items import Item
from unlearn.attacks.setting.knowledge import ask, judge

TIE = 1e-3  # weight of the likelihood in an attacker's estimate: it decides between equal K alone


def judge_with_choice(suspect: Suspect, brief: Brief, variant: str, **about: object) -> Outcome:
    """`judge`, with choice = mean K on the attacker's items + 1e-3 * mean probability of their answers.

    A perturbation that was optimised on these items soon has all of them right: then the surer one is the better.
    """
    outcome = judge(suspect, brief, variant, taught=True, **about)  # type: ignore[arg-type]
    sure = ask(suspect, brief, [item.probe for item in brief.taught], "prob").known
    assert outcome.taught is not None
    return replace(outcome, choice=outcome.taught + TIE * float(np.nanmean(sure)))


def success(victim: Suspect, brief: Brief, judges: Sequence[Item]) -> float:
    """How well an attacker thinks it did, by its own items: their mean K; of equal ones, the likelier answers win."""
    probes = [item.probe for item in judges]
    known = np.nanmean(ask(victim, brief, probes).known)
    return float(known + TIE * np.nanmean(ask(victim, brief, probes, "prob").known))
