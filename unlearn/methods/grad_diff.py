"""Gradient difference: ascent on the forget rows, descent on the retain rows."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.methods.gradient import ForgetRetain


@dataclass(frozen=True, kw_only=True)
class GradDiff(ForgetRetain):
    """loss = -forget_weight * TOK_F + retain_weight * retain, with TOK the nll averaged over answer tokens (nats).

    Liu et al. 2022, Continual Learning and Private Unlearning; Maini et al. 2024, TOFU. Other projects' letters:
    OpenUnlearning gamma = forget_weight, alpha = retain_weight; WAGLE and SOUL gamma = retain_weight.
    """
