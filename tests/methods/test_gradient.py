"""What holds of every method: over any split of a step, losses and gradients add up to those of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_policy import StubPolicy, step, take
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.methods.dpo import DPO
from unlearn.methods.finetune import Finetune
from unlearn.methods.grad_ascent import GradAscent
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.kl import KL
from unlearn.methods.npo import NPO
from unlearn.methods.po import PO
from unlearn.methods.simnpo import SimNPO
from unlearn.models.batches import Batch
from unlearn.models.policy import Policy

if TYPE_CHECKING:
    from unlearn.methods.gradient import GradientMethod

METHODS: list[GradientMethod] = [
    GradAscent(),
    Finetune(),
    GradDiff(forget_weight=0.3, retain_weight=2),
    GradDiff(retain_loss="kl", kl_positions="labels"),
    KL(forget_kl_weight=-0.2),
    KL(retain_loss="kl_wagle"),
    KL(retain_loss="kl_muse", kl_positions="labels"),
    PO(),
    PO(pooling="joint", forget_weight=2),
    DPO(),
    DPO(reduction="sequence_mean", retain_loss="kl"),
    NPO(),
    NPO(reduction="sequence_mean", retain_weight=0),
    SimNPO(margin=0.1),
    SimNPO(reduction="sequence_sum", retain_loss="kl"),
]
Split = list[dict[str, list[int]]]


@st.composite
def splits(draw: st.DrawFn, pairs: int, retained: int) -> Split:
    """A split of a step into micro-batches: a forget row stays with its refusal; some segments may be empty."""
    number = draw(st.integers(1, 4))
    place = st.integers(0, number - 1)
    of_pair = draw(st.lists(place, min_size=pairs, max_size=pairs))
    of_retain = draw(st.lists(place, min_size=retained, max_size=retained))
    parts = []
    for part in range(number):
        mine = [row for row, where in enumerate(of_pair) if where == part]
        kept = [row for row, where in enumerate(of_retain) if where == part]
        parts.append({"forget": mine, "refusal": mine, "retain": kept})
    return parts


@pytest.mark.parametrize("method", METHODS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_micro_batches_add_up_to_the_step(method: GradientMethod, data: st.DataObject) -> None:
    pairs, retained = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    sizes = {"forget": pairs, "refusal": pairs, "retain": retained}
    targets = {name: data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)) for name, n in sizes.items()}
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    whole = step(targets, {name: (5 * random(n).abs()).tolist() for name, n in sizes.items()})
    rows, width = whole.labels.shape
    nll, logits, theirs = 3 * random(rows, width - 1).abs(), random(rows, width, 5), random(rows, width, 5)

    def run(batches: list[Batch]) -> dict[str, Tensor]:
        mine = {"nll": nll.clone().requires_grad_(), "logits": logits.clone().requires_grad_()}
        losses = [method.loss(StubPolicy(**mine), batch, StubPolicy(nll, theirs)) for batch in batches]
        total = torch.stack([loss.total for loss in losses]).sum()
        total.backward()
        values = {n: [loss.terms[n].value for loss in losses] for n in losses[0].terms}
        parts = {name: torch.stack(each).sum().detach() for name, each in values.items()}
        gradients = {f"gradient of {name}": leaf.grad for name, leaf in mine.items() if leaf.grad is not None}
        return {"total": total.detach(), **parts, **gradients}

    split = data.draw(splits(pairs, retained))
    torch.testing.assert_close(run([take(whole, part) for part in split]), run([whole]))


@pytest.mark.parametrize(
    "method",
    [NPO(reduction="pooled_token", retain_weight=0), SimNPO(reduction="pooled_token", retain_weight=0)],
    ids=repr,
)
def test_a_pooled_micro_batch_counts_by_its_share_of_rows(method: GradientMethod) -> None:
    nll = torch.tensor([[1.0, 2.0, 0], [4.0, 0, 0], [2.0, 2.0, 0]], dtype=torch.float64)
    whole = step({"forget": [2, 1, 2]}, {"forget": [2.0, 1.0, 3.0]})
    two, one, none = (
        method.loss(StubPolicy(nll), take(whole, {"forget": rows}), None).total.item() for rows in ([0, 1], [2], [])
    )
    alone = method.loss(StubPolicy(nll), step({"forget": [2, 1]}, {"forget": [2.0, 1.0]}), None).total.item()
    alike = method.loss(StubPolicy(nll[2:]), step({"forget": [2]}, {"forget": [3.0]}), None).total.item()
    assert two == pytest.approx(alone * 2 / 3)
    assert one == pytest.approx(alike * 1 / 3)
    assert none == 0


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_micro_batches_of_a_real_model_add_up(method: GradientMethod) -> None:
    """With padding cut to each micro-batch's own width, and one of them without any row."""
    torch.manual_seed(0)
    shape: Any = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=20, **shape)
    model, reference = (LlamaForCausalLM(config).double() for _ in range(2))
    whole = step(
        {"forget": [4, 1, 2], "refusal": [1, 3, 1], "retain": [2, 1]},
        {"forget": [9.0, 2, 5], "refusal": [3.0, 8, 3]},
    )
    ids = torch.randint(2, 20, whole.input_ids.shape)
    whole = Batch(ids, whole.attention_mask, whole.labels, whole.segments)
    split: Split = [
        {"forget": [1, 2], "refusal": [1, 2], "retain": [1]},
        {"forget": [0], "refusal": [0]},
        {"retain": [0]},
        {},
    ]

    def run(batches: list[Batch]) -> list[Tensor]:
        model.zero_grad()
        losses = [method.loss(Policy(model), batch, Policy(reference)) for batch in batches]
        total = torch.stack([loss.total for loss in losses]).sum()
        total.backward()
        gradients: list[Any] = [weight.grad for weight in model.parameters()]
        return [total.detach(), *(gradient.clone() for gradient in gradients)]

    torch.testing.assert_close(run([trim(take(whole, part)) for part in split]), run([whole]))


def trim(batch: Batch) -> Batch:
    """Without the columns that are padding in every row."""
    width = max(2, int(batch.attention_mask.sum(dim=1).max())) if len(batch.labels) else 2
    return Batch(batch.input_ids[:, :width], batch.attention_mask[:, :width], batch.labels[:, :width], batch.segments)


def test_segments_that_a_method_has_no_need_of_change_nothing() -> None:
    nll = torch.rand(3, 3)
    alone, beside = step({"forget": [2]}), step({"forget": [2], "refusal": [1], "retain": [2]})
    method = GradDiff(retain_weight=0)
    assert method.loss(StubPolicy(nll), beside, None).total == method.loss(StubPolicy(nll), alone, None).total


@pytest.mark.parametrize("cls", [GradDiff, KL, PO, DPO, NPO, SimNPO])
def test_two_zero_weights_are_refused(cls: type[GradDiff]) -> None:
    with pytest.raises(ValueError, match="both 0"):
        cls(forget_weight=0, retain_weight=0)


@pytest.mark.parametrize("loss", ["kl", "kl_wagle", "kl_muse"])
def test_a_divergence_needs_the_reference_model_where_it_counts(loss) -> None:
    assert GradDiff(retain_loss=loss).segments == ("forget", "retain")
    assert GradDiff(retain_loss=loss).reference == {"model"}
    assert GradDiff(retain_loss=loss, retain_weight=0).segments == ("forget",)
    assert GradDiff(retain_loss=loss, retain_weight=0).reference == frozenset()
