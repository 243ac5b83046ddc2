"""Weight attribution for unlearning (WAGLE)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from unlearn.errors import UserError
from unlearn.localize.base import Located, Subject
from unlearn.localize.scored import ByTwoGradients, weights_of

if TYPE_CHECKING:
    from torch import Tensor

RELEASED_MU, RELEASED_ACCUMULATION = 1e-6, 4  # of the released configurations


@dataclass(frozen=True, kw_only=True)
class Wagle(ByTwoGradients):
    """score = |(theta - g_r / gamma) g_f|: what removing a weight does to the forget loss once the others re-adapt.

    Jia et al. 2024, WAGLE (arXiv 2410.17509): a bi-level attribution in which the others go back to the minimum of the
    retain loss, whose Hessian is taken for gamma times the identity. Gradients are of nlls, whatever the method.
    gamma: the curvature of the retain loss, for mean gradients. A number; "auto": the diagonal of the empirical Fisher
        information, averaged over weights (retain rows then go one at a time); "released": what the released code
        amounts to. Its mu meets gradients summed over N_f samples and divided by 4, so gamma = 4 mu / N_f, with
        mu = 1e-6: so small that the weight term does nothing.

    numbers: gamma; snip_share, the sum of |theta g_f| over that of |theta g_f| + |g_r g_f| / gamma; snip_iou and
    interaction_iou, the overlap of the mask with those of the two limits (localize=snip, localize=interaction).
    """

    gamma: Annotated[float, Gt(0)] | Literal["auto", "released"] = "auto"

    def localize(self, subject: Subject) -> Located:
        """The mask of the highest scores, and how far it is from its two limits."""
        weight = weights_of(subject)
        forget = self.forget_gradients(subject)
        retain = self.retain_gradients(subject, squares=self.gamma == "auto")
        gamma = self.curvature(len(subject.task.forget), retain.mean_square)
        selections = self.highest(
            subject, lambda name: importance(weight(name), forget.of(name), retain.of(name), gamma)
        )

        def snip(name: str) -> Tensor:
            return weight(name) * forget.of(name)

        def interaction(name: str) -> Tensor:
            return retain.of(name) * forget.of(name)

        numbers, size = {"gamma": gamma}, {}
        for limit, score in (("snip", snip), ("interaction", interaction)):
            (other,) = replace(self, also=()).highest(subject, score)
            numbers[f"{limit}_iou"] = selections[0].mask.iou(other.mask)
            size[limit] = sum(score(name).abs().sum().item() for name in self.in_scope(subject))
        both = size["snip"] + size["interaction"] / gamma
        numbers["snip_share"] = size["snip"] / both if both else 0.0
        return self.located(selections, **numbers)

    def curvature(self, forget_rows: int, mean_square: float | None) -> float:
        """gamma as a number; mean_square: of the retain rows' gradients. UserError where that is 0."""
        if self.gamma == "released":
            return RELEASED_MU * RELEASED_ACCUMULATION / forget_rows
        if self.gamma != "auto":
            return self.gamma
        if not mean_square:
            raise UserError("localize.gamma=auto: all gradients of the retain rows are 0; give gamma as a number")
        return mean_square


def importance(weight: Tensor, forget: Tensor, retain: Tensor, gamma: float) -> Tensor:
    """(theta - g_r / gamma) g_f of one tensor; with one temporary of its size."""
    return weight.sub(retain, alpha=1 / gamma).mul_(forget)
