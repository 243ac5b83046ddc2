"""WAGLE against its formula on plain gradients, and at its two limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from plain_gradients import assert_highest, mean, row_gradients
from torch import Tensor

from unlearn.localize.weights.interaction import Interaction
from unlearn.localize.weights.snip import Snip
from unlearn.localize.weights.wagle import Wagle, importance
from unlearn.runtime.components import check
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.models.mask import Mask
    from unlearn.models.subject import Subject

Named = dict[str, Tensor]


def parts(subject: Subject, localizer: Wagle, task: Task) -> tuple[Named, Named, Named, float]:
    """Weights, g_f, g_r, and the mean square of the retain rows' gradients."""
    weights = {name: p.detach() for name, p in subject.module.named_parameters()}
    each = row_gradients(subject.module, localizer.retain_rows(subject, task, 0))
    square = float(torch.cat([gradient.flatten() for gradient in each.values()]).double().square().mean())
    return weights, mean(row_gradients(subject.module, localizer.forget_rows(subject, task, 0))), mean(each), square


@pytest.mark.parametrize("loss", ["answer", "refusal"])
@pytest.mark.parametrize("gamma", [1e-3, 0.05, 1.0, "auto", "balanced", "released"])
def test_the_formula(subject: Subject, gamma: Any, loss: Any, task: Task) -> None:
    localizer = Wagle(select=0.4, gamma=gamma, forget_loss=loss)
    located = localizer.localize(subject, task, 0)
    weights, forget, retain, square = parts(subject, localizer, task)
    snip = sum(float((weights[name] * forget[name]).abs().sum()) for name in weights)
    interaction = sum(float((retain[name] * forget[name]).abs().sum()) for name in weights)
    released = 1e-6 * 4 / 3  # three forget examples
    value = {"auto": square, "balanced": interaction / snip, "released": released}.get(gamma, gamma)
    assert located.numbers["gamma"] == pytest.approx(value, rel=1e-5)
    scores = {name: (weights[name] - retain[name] / value) * forget[name] for name in weights}
    assert_highest(located.mask, scores, 0.4)
    assert located.numbers["snip_share"] == pytest.approx(snip / (snip + interaction / value), rel=1e-4)
    assert located.numbers["gamma_balanced"] == pytest.approx(interaction / snip, rel=1e-4)


@pytest.mark.parametrize(("gamma", "limit"), [(1e9, Snip), (1e-12, Interaction)])
def test_the_limits(subject: Subject, gamma: float, limit: Any, task: Task) -> None:
    located = Wagle(select=0.4, gamma=gamma).localize(subject, task, 0)
    assert located.mask.iou(limit(select=0.4).localize(subject, task, 0).mask) > 0.999
    near, far = ("snip", "interaction") if limit is Snip else ("interaction", "snip")
    assert located.numbers[f"{near}_iou"] > 0.999 > 0.95 > located.numbers[f"{far}_iou"]
    assert located.numbers["snip_share"] == pytest.approx(float(limit is Snip), abs=1e-4)


def test_overlaps_with_the_limits(subject: Subject, task: Task) -> None:
    """In between: as the masks of localize=snip and localize=interaction say."""
    located = Wagle(select=0.2, also=(0.6,), gamma=0.02, seed=3).localize(subject, task, 0)
    for name, limit in (("snip", Snip), ("interaction", Interaction)):
        other: Mask = limit(select=0.2, seed=3).localize(subject, task, 0).mask
        assert located.numbers[f"{name}_iou"] == located.mask.iou(other)


def test_importance_by_hand() -> None:
    weight, forget, retain = torch.tensor([[2.0, -1.0, 0.5], [3.0, 1.0, 0.0], [1.0, -2.0, 4.0]])
    assert importance(weight, forget, retain, 0.5).tolist() == [0.0, 3.0, 0.0]
    assert (weight[0], forget[0], retain[0]) == (2, 3, 1)  # left as they were


def test_balanced_is_half_way(subject: Subject, task: Task) -> None:
    numbers = Wagle(gamma="balanced", scope="mlp").localize(subject, task, 0).numbers
    assert numbers["snip_share"] == pytest.approx(0.5)
    assert numbers["gamma"] == numbers["gamma_balanced"]


@pytest.mark.parametrize(("gamma", "limit"), [(1e9, "snip"), (1e-12, "interaction"), ("balanced", "")])
def test_a_mask_that_is_that_of_a_limit_is_told_of(
    subject: Subject, gamma: Any, limit: str, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    Wagle(select=0.4, gamma=gamma).localize(subject, task, 0)
    said = " ".join(capsys.readouterr().err.split())
    assert (f"the mask is in effect that of localize={limit} " in said) == bool(limit)
    assert ("in effect" in said) == bool(limit)


@pytest.mark.parametrize("gamma", ["auto", "balanced"])
def test_gamma_cannot_be_estimated_from_nothing(subject: Subject, gamma: Any, task: Task) -> None:
    with torch.no_grad():
        subject.module.lm_head.weight.zero_()
        subject.module.model.norm.weight.zero_()
    with pytest.raises(UserError, match=f"gamma={gamma}"):
        Wagle(gamma=gamma).localize(subject, task, 0)


@pytest.mark.parametrize("gamma", [0, -1.0, "fisher"])
def test_gammas_that_are_refused(gamma: Any) -> None:
    from typing import get_type_hints

    with pytest.raises(UserError, match=r"localize\.gamma"):
        check(gamma, get_type_hints(Wagle, include_extras=True)["gamma"], "localize.gamma")
