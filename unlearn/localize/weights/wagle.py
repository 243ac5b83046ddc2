"""Weight attribution for unlearning (WAGLE)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from unlearn.localize.weights.scored import ByTwoGradients, weights_of
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from unlearn.data.task import Task
    from unlearn.localize.base import Localization
    from unlearn.models.subject import Subject

RELEASED_MU, RELEASED_ACCUMULATION = 1e-6, 4  # of the released configurations
NEGLIGIBLE = 0.01  # share of the score from which on a term does not show


@dataclass(frozen=True, kw_only=True)
class Wagle(ByTwoGradients):
    """Select by score = |(theta - g_r / gamma) g_f|: what removing a weight does to the forget loss.

    Jia et al. 2024, WAGLE (arXiv 2410.17509): a bi-level attribution in which the other weights go back to the minimum
    of the retain loss, whose Hessian is taken for gamma times the identity. Gradients are of nlls, whatever the method.

    numbers: gamma; gamma_balanced, what "balanced" would be; snip_share, the sum of |theta g_f| over that of |theta
    g_f| + |g_r g_f| / gamma; snip_iou and interaction_iou, the overlap of the mask with those of the two limits
    (localize=snip, localize=interaction). nan where all that they are made of is 0.
    """

    gamma: Annotated[float, Gt(0)] | Literal["auto", "balanced", "released"] = "auto"
    """Curvature of the retain loss: "auto", "balanced", "released", or a number.

    "auto": the diagonal of the empirical Fisher information, averaged over weights (retain rows then go one at a time).
    Squares of gradients are so small that the mask is in practice close to that of localize=interaction. "balanced":
    where both terms of the score weigh the same, sum |g_r g_f| / sum |theta g_f|; no estimate of a curvature, but
    neither limit. "released": what the released code amounts to. Its mu meets gradients summed over N_f samples and
    divided by 4, so gamma = 4 mu / N_f, with mu = 1e-6: so small that the weight term does nothing."""

    def localize(self, subject: Subject, task: Task, seed: int) -> Localization:
        """Return the mask of the highest scores, and how far it is from its two limits."""
        from unlearn.runtime.progress import notify

        weight = weights_of(subject)
        forget = self.forget_gradients(subject, task, seed)
        retain = self.retain_gradients(subject, task, seed, squares=self.gamma == "auto")
        sizes = {"snip": 0.0, "interaction": 0.0}
        for name in self.in_scope(subject):
            of_forget = forget.of(name)
            sizes["snip"] += (weight(name) * of_forget).abs_().sum().item()
            sizes["interaction"] += (retain.of(name) * of_forget).abs_().sum().item()
        balanced = sizes["interaction"] / sizes["snip"] if sizes["snip"] else math.nan
        gamma = self.curvature(len(task.rows("forget")), retain.mean_square, balanced)
        both = sizes["snip"] + sizes["interaction"] / gamma
        share = sizes["snip"] / both if both else math.nan
        numbers = {"gamma": gamma, "gamma_balanced": balanced, "snip_share": share}
        selections = self.highest(
            subject, lambda name: importance(weight(name), forget.of(name), retain.of(name), gamma)
        )

        def snip(name: str) -> Tensor:
            return weight(name) * forget.of(name)

        def interaction(name: str) -> Tensor:
            return retain.of(name) * forget.of(name)

        for limit, score in (("snip", snip), ("interaction", interaction)):
            (other,) = replace(self, also=()).highest(subject, score)
            numbers[f"{limit}_iou"] = selections[0].mask.iou(other.mask)
        if share < NEGLIGIBLE or share > 1 - NEGLIGIBLE:
            limit = "snip" if share > 0.5 else "interaction"
            notify(
                f"localize: the weight term makes up {100 * share:.3g} % of WAGLE's score: the mask is in effect that "
                f"of localize={limit} (gamma is {gamma:.3g}; both terms weigh the same at {balanced:.3g})"
            )
        found = self.located(selections, **numbers)
        return replace(found, words=_words(found.numbers))

    def curvature(self, forget_rows: int, mean_square: float | None, balanced: float) -> float:
        """Return gamma as a number; UserError where what is asked for is 0.

        mean_square: of the retain rows' gradients. balanced: the gamma at which both terms weigh the same.
        """
        if self.gamma == "released":
            return RELEASED_MU * RELEASED_ACCUMULATION / forget_rows
        if self.gamma == "balanced":
            if not balanced > 0:
                raise UserError("localize.gamma=balanced: all products of gradients are 0; give gamma as a number")
            return balanced
        if self.gamma == "auto":
            if not mean_square:
                raise UserError("localize.gamma=auto: all gradients of the retain rows are 0; give gamma as a number")
            return mean_square
        return self.gamma


def importance(weight: Tensor, forget: Tensor, retain: Tensor, gamma: float) -> Tensor:
    """Return (theta - g_r / gamma) g_f of one tensor; with one temporary of its size."""
    return weight.sub(retain, alpha=1 / gamma).mul_(forget)


def _words(numbers: Mapping[str, float]) -> dict[str, str]:
    """Return what the numbers say; of an overlap also what chance would give, f / (2 - f) for a share f."""
    selected, scored = numbers["selected"], numbers["scored"]
    chance = f" Two random masks of this size: {selected / (2 * scored - selected):.2g}." if scored else ""
    return {
        "gamma_balanced": "The γ at which both terms of the score weigh the same.",
        "gamma": "Curvature of the retain loss in the score |(θ − g_r/γ) g_f|. Large: SNIP; small: the interaction.",
        "snip_share": "Share of the score that its weight term (SNIP) makes up.",
        "snip_iou": f"Overlap (IoU) of the mask with SNIP's at the same fraction. 1: it is SNIP's.{chance}",
        "interaction_iou": f"Overlap (IoU) with that of |g_f g_r| at the same fraction. 1: it is that one.{chance}",
    }
