"""Gradients, scores and masks of the weight localizers against what WAGLE's own classes give on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.data.prompt import Encoded
from unlearn.data.refusals import refusing
from unlearn.data.task import Example, Task
from unlearn.localize.base import Localizer
from unlearn.localize.weights.gradient import Gradient
from unlearn.localize.weights.magnitude import Magnitude
from unlearn.localize.weights.snip import Snip
from unlearn.localize.weights.wagle import Wagle, importance
from unlearn.localize.weights.wanda import Wanda
from unlearn.models.batches import IGNORE
from unlearn.models.subject import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.models.mask import Mask

Named = dict[str, Tensor]
Make = Callable[..., Localizer]

LOCALIZERS: dict[str, Make] = {
    "salun_gradient": Gradient,
    "magnitude": Magnitude,
    "snip_forget": Snip,
    "wagle_mu=": Wagle,
    "wagle_CL_mu=": Wagle,
}
"""By kind, or by what a kind begins with. The fixtures' gradients are sums over four samples divided by an accumulation
of four, that is, means, so that their mu is our gamma."""


class Stored:
    """In the place of a prompt format: the question names a batch of the fixtures and a row of it."""

    def __init__(self, batches: Named) -> None:
        self.batches = batches

    def encode_all(self, tokenizer: object, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """The forget rows' refusals are the batch "idk"."""
        rows = []
        for question, answer in pairs:
            part, row = question.split()
            rows.append(self.row("idk" if answer == "refusal" else part, int(row)))
        return rows

    def row(self, part: str, row: int) -> Encoded:
        """A row without its padding; its prompt is what has no label."""
        ids, attended, labels = (
            self.batches[f"{part}.{key}"][row] for key in ("input_ids", "attention_mask", "labels")
        )
        n_prompt = int((labels != IGNORE).nonzero()[0])
        return Encoded(tuple(ids[: int(attended.sum())].tolist()), n_prompt)


class Fixture:
    """The stored weights, batches and expectations."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "expected.json").read_text())
        self.masks, self.tolerance = record["wagle"]["masks"], record["tolerance"]
        self.gradients, self.scores, self.selected = (
            load_file(folder / f"wagle_{name}.safetensors") for name in ("grads", "scores", "masks")
        )
        options = json.loads((folder / "config.json").read_text()) | {"attn_implementation": "eager"}
        model: Any = LlamaForCausalLM(LlamaConfig(**options))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        self.batches = batches = load_file(folder / "batches.safetensors")
        count = len(batches["forget.labels"])
        forget, retain = (
            tuple(Example((f"{part} {i}",), ("answer",)) for i in range(count)) for part in ("forget", "retain")
        )
        self.task = Task("fixture", "", {"forget": forget, "retain": retain, "refusal": refusing(forget, ("refusal",))})
        stored: Any = Stored(batches)
        nothing: Any = None
        self.subject = Subject("original", model.eval(), nothing, stored, token_budget=60)

    def kinds(self) -> list[str]:
        """The kinds that have scores."""
        return sorted({key.partition("/")[0] for key in self.scores})

    def part(self, tensors: Named, prefix: str) -> Named:
        """Tensors by parameter."""
        return {key.removeprefix(f"{prefix}/"): t for key, t in tensors.items() if key.startswith(f"{prefix}/")}

    def localizer(self, kind: str, ratio: float) -> Any:
        """Ours of this kind, selecting this fraction."""
        (make,) = (make for begin, make in LOCALIZERS.items() if kind.startswith(begin))
        fields: dict[str, Any] = {"gamma": float(kind.rpartition("=")[2])} if make is Wagle else {}
        return make(select=ratio, **fields, **({"forget_loss": "refusal"} if "_CL_" in kind else {}))

    @contextmanager
    def released(self, kind: str) -> Iterator[None]:
        """For refusals (CL) the attention mask is that of the old answer, which hides the end of a longer refusal."""
        lengths = self.batches["forget.question_length"].tolist()
        prompts = [ids[:n] for ids, n in zip(self.batches["forget.input_ids"], lengths, strict=True)]

        def hide(module: object, args: Any, inputs: dict[str, Any]) -> Any:
            ids = inputs["input_ids"]
            mask = torch.ones_like(ids)
            for row, attended in zip(ids, mask, strict=True):
                for prompt, old in zip(prompts, self.batches["forget.attention_mask"], strict=True):
                    if torch.equal(row[: len(prompt)], prompt):
                        attended[:] = old[: len(row)]
            return args, inputs | {"attention_mask": mask}

        handle = self.subject.module.register_forward_pre_hook(hide, with_kwargs=True) if "_CL_" in kind else None
        yield
        if handle:
            handle.remove()

    def ratios(self, kind: str) -> list[float]:
        """The fractions of which there are masks of this kind."""
        return [float(case.rpartition("@")[2]) for case in self.masks if case.rpartition("@")[0] == kind]


@pytest.fixture(scope="module")
def fixture(parity: Path) -> Fixture:
    return Fixture(parity / "methods")


def assert_close(mine: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """To within a part of the tensor's largest value."""
    assert (mine - expected).abs().max() <= tolerance * expected.abs().max(), what


def test_gradients(fixture: Fixture) -> None:
    localizer = Wagle()
    for part, ours in (
        ("forget", localizer.forget_gradients(fixture.subject, fixture.task, 0)),
        ("retain", localizer.retain_gradients(fixture.subject, fixture.task, 0)),
    ):
        expected = fixture.part(fixture.gradients, f"grad_{part}")
        assert ours.means.keys() == expected.keys()
        for name, gradient in expected.items():
            assert_close(ours.of(name), gradient, fixture.tolerance["score_rel_to_max_per_tensor"], name)


def test_scores(fixture: Fixture) -> None:
    """Of every kind; the fixtures hold minus the importance."""
    weights = {name: p.detach() for name, p in fixture.subject.module.named_parameters()}
    checked = 0
    for kind in fixture.kinds():
        expected = fixture.part(fixture.scores, kind)
        localizer = fixture.localizer(kind, 0.5)
        with fixture.released(kind):
            forget = None if kind == "magnitude" else localizer.forget_gradients(fixture.subject, fixture.task, 0)
            retain = (
                localizer.retain_gradients(fixture.subject, fixture.task, 0) if isinstance(localizer, Wagle) else None
            )
        for name, score in expected.items():
            if forget is None:
                mine = weights[name]
            elif retain is not None:
                mine = importance(weights[name], forget.of(name), retain.of(name), localizer.gamma)
            else:
                mine = forget.of(name) * (weights[name] if kind == "snip_forget" else 1)
            assert_close(-mine.abs(), score, fixture.tolerance["score_rel_to_max_per_tensor"], f"{kind}: {name}")
            checked += 1
    assert checked == len(fixture.scores)


def test_masks(fixture: Fixture) -> None:
    """At the fixtures' threshold 0 the ties are arbitrary there: only the count and the nonzero scores are compared."""
    checked = 0
    for kind in fixture.kinds():
        first, *also = fixture.ratios(kind) or [0.5]
        with fixture.released(kind):
            located = replace(fixture.localizer(kind, first), also=tuple(also)).localize(
                fixture.subject, fixture.task, 0
            )
        for ratio, mask in zip([first, *also], [located.mask, *located.masks.values()], strict=True):
            if f"{kind}@{ratio:g}" in fixture.masks:
                check_mask(fixture, kind, ratio, mask)
                checked += 1
    assert checked == sum("@" in case and not case.startswith("wanda") for case in fixture.masks)


def check_mask(fixture: Fixture, kind: str, ratio: float, mask: Mask) -> None:
    """Equal wherever the score is not within a relative 1e-4 of the threshold."""
    case = f"{kind}@{ratio:g}"
    record, scores = fixture.masks[case], fixture.part(fixture.scores, kind)
    assert mask.selected == record["selected_total"], case
    assert mask.total == record["numel"], case
    threshold = record["threshold_selected_min"]
    for name, theirs in fixture.part(fixture.selected, case).items():
        score = -scores[name]
        differ = mask.bits(name) != theirs.bool()
        assert ((score[differ] - threshold).abs() <= 1e-4 * threshold).all(), f"{case}: {name}"
        if threshold == 0:
            assert mask.bits(name)[score > 0].all(), f"{case}: {name}"


@pytest.mark.parametrize("limit", ["interaction", "snip"])
def test_overlap_with_the_limits(fixture: Fixture, limit: str) -> None:
    """The fixtures give |A & B| / |A| of the highest tenths; the union then holds 2 - overlap of them."""
    prefix = {"interaction": "overlap_top10pct_with_abs_gr_gf_mu=", "snip": "overlap_top10pct_with_abs_theta_gf_mu="}[
        limit
    ]
    cases = {case: value for case, value in fixture.masks.items() if case.startswith(prefix)}
    assert cases
    for case, overlap in cases.items():
        located = Wagle(select=0.1, gamma=float(case.removeprefix(prefix))).localize(fixture.subject, fixture.task, 0)
        assert located.numbers[f"{limit}_iou"] == pytest.approx(overlap / (2 - overlap), abs=2e-3), case


def test_curvature(fixture: Fixture) -> None:
    """The fixtures have the mean square of the mean gradient; auto's, of each row's gradient, cannot be below it."""
    retain = Wagle().retain_gradients(fixture.subject, fixture.task, 0, squares=True)
    squared = torch.cat([gradient.flatten() for gradient in retain.means.values()]).double().square().mean()
    expected = fixture.masks["mean_squared_retain_grad(meanloss)"]
    assert float(squared) == pytest.approx(expected, rel=1e-4)
    assert retain.mean_square is not None
    assert retain.mean_square > expected


def test_wanda_counts(fixture: Fixture) -> None:
    """Counts in every output row; positions depend on an order of calibration rows that is not recorded."""
    for ratio in fixture.ratios("wanda"):
        mask = Wanda(select=ratio).localize(fixture.subject, fixture.task, 0).mask
        record = fixture.masks[f"wanda@{ratio:g}"]
        assert mask.selected == record["selected_total"]
        for index, name in fixture.masks["wanda_index_to_param"].items():
            theirs = fixture.selected[f"wanda@{ratio:g}/{name}"]
            assert torch.equal(mask.bits(name).sum(1), theirs.sum(1))
            assert mask.counts[name] == record["selected_per_tensor"][index]
