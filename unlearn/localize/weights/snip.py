"""Localization by connection sensitivity (SNIP)."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.localize.base import Localization, Subject
from unlearn.localize.weights.scored import ByGradient, weights_of


@dataclass(frozen=True, kw_only=True)
class Snip(ByGradient):
    """score = |theta g_f|: to first order, how much the forget loss changes where a weight is removed.

    Lee et al. 2019, SNIP (arXiv 1810.02340). It is WAGLE's limit for gamma to infinity.
    """

    def localize(self, subject: Subject) -> Localization:
        """The mask of the highest scores."""
        weight, forget = weights_of(subject), self.forget_gradients(subject)
        return self.located(self.highest(subject, lambda name: weight(name) * forget.of(name)))
