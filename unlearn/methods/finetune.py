"""Plain fine-tuning on the retain rows: the weakest baseline of unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.methods.gradient import TokenMean
from unlearn.training.objective import Side


@dataclass(frozen=True)
class Finetune(TokenMean):
    """loss = TOK_R, the nll of the retain rows, averaged over all of the step's answer tokens (nats)."""

    side: ClassVar[Side] = "retain"
    sign: ClassVar[float] = 1.0
