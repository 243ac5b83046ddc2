"""Gradient ascent on the forget rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.methods.gradient import TokenMean
from unlearn.training.objective import Side


@dataclass(frozen=True)
class GradAscent(TokenMean):
    """loss = -TOK_F, minus the nll of the forget rows averaged over all of the step's answer tokens (nats).

    Jang et al. 2023, Knowledge Unlearning; Maini et al. 2024, TOFU. Unbounded below: run for long, it diverges.
    """

    side: ClassVar[Side] = "forget"
    sign: ClassVar[float] = -1.0
