"""A method: from a model to a model. This one is a loss, and the shared loop trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from unlearn.methods.gradient import ForgetRetain, Scores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BoundedAscent(ForgetRetain):
    """Gradient difference whose forget term stops at a bound: -mean_b min(S_b / n_b, bound) over the step's rows b."""

    version: ClassVar[int] = 1

    bound: Annotated[float, Gt(0)] = 5.0
    """The nll of a forget row (nats a token) beyond which nothing is gained."""

    def forget(self, scores: Scores, reference: Scores) -> Tensor:
        """Return minus the mean of the bounded nll."""
        rows = scores["forget"]
        return -rows.row_mean((rows.sums / rows.counts).clamp(max=self.bound))
