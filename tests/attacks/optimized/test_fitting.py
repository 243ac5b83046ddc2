"""The loop that fits perturbations: its loss, its clipping, what it leaves behind."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prompted import PAIRS, POSED, hooks_of, setting_of, subject_of

from unlearn.attacks.optimized.fitting import Schedule, Targets, clip_rows, fit, force_each
from unlearn.attacks.optimized.latent import Stream, Vector, stream_sites
from unlearn.data.task import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unlearn.models.batches import Batch


class Offset:
    """A number added to every logit of one token, whose losses can be computed by hand."""

    def __init__(self, token: int, gradient: float | None = None) -> None:
        self.subject, self.token = subject_of(), token
        self.value = torch.zeros(1, requires_grad=True)
        self.norms: list[Any] = []
        self.gradient, self.projected = gradient, 0

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [self.value]

    def project(self) -> None:
        self.projected += 1
        assert self.value.grad is not None
        self.norms.append(float(self.value.grad.norm()))

    @contextmanager
    def active(self) -> Iterator[None]:
        def add(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
            new = output.clone()
            scale = self.value if self.gradient is None else self.value * self.gradient
            new[..., self.token] += scale
            return new

        handle = self.subject.module.get_output_embeddings().register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(0.01, 4))
def test_no_row_is_longer_than_the_norm_and_short_ones_stay(row: list[float], norm: float) -> None:
    vectors = torch.tensor([row, [0.0, 0.0, 0.0]])
    clipped = clip_rows(vectors, norm)
    length = vectors[0].norm()
    assert clipped[0].norm() <= norm * (1 + 1e-5)
    torch.testing.assert_close(clipped[0], vectors[0] if length <= norm else vectors[0] * norm / length)
    assert clipped[1].tolist() == [0, 0, 0]


def test_the_loss_falls_toward_the_answers_and_rises_where_it_leads_away() -> None:
    eos = 1
    toward, away = Offset(eos), Offset(eos)
    fit(toward, Targets(POSED), Schedule(20, 0.1, 2), 0)
    fit(away, Targets(POSED, [(Question("Where?", "no"), "no")], toward=1e-6, away=1.0), Schedule(20, 0.1, 2), 0)
    assert float(toward.value.detach()) > 0  # every answer ends with it
    assert float(away.value.detach()) < 0


def test_the_first_gradient_is_that_of_the_mean_over_rows() -> None:
    offset = Offset(1)
    subject = offset.subject
    expected = 0.0
    for row in subject.prompt.encode_all(subject.processor, PAIRS):
        with torch.no_grad():
            p = subject.module(input_ids=torch.tensor([row.ids])).logits[0, row.n_prompt - 1 : -1].softmax(-1)[:, 1]
        hit = torch.tensor([float(token == 1) for token in row.ids[row.n_prompt :]])
        expected += float((p - hit).mean()) / len(PAIRS)
    fit(offset, Targets(POSED), Schedule(1, 1e-9, 2), 0)
    assert offset.norms[0] == pytest.approx(abs(expected), rel=1e-4)


def test_gradients_are_clipped_and_those_that_are_not_finite_count_as_0() -> None:
    steep, broken = Offset(1, gradient=1e4), Offset(1, gradient=float("nan"))
    fit(steep, Targets(POSED), Schedule(1, 1e-9, 2), 0)
    assert steep.norms == [pytest.approx(1.0, rel=1e-3)]
    fit(broken, Targets(POSED), Schedule(2, 0.1, 2), 0)
    assert broken.norms == [0.0, 0.0]
    assert float(broken.value.detach()) == 0.0


def test_batches_that_do_not_fit_are_halved_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearn.models.policy import Policy

    whole, halved = Offset(1), Offset(1)
    fit(whole, Targets(POSED), Schedule(1, 1e-9, 2), 0)
    forward = Policy.forward

    def small(self: object, batch: Batch, *rest: object) -> object:
        if len(batch.input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "forward", small)
    fit(halved, Targets(POSED), Schedule(1, 1e-9, 2), 0)
    assert halved.norms[0] == pytest.approx(whole.norms[0], rel=1e-5)


def test_an_error_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of()
    subject.module.train()
    (site,) = stream_sites(subject, [0.5])
    stream = Stream(subject, [(site, Vector(16, 1.0, torch.device("cpu")))])

    def stop(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(stream, Targets(POSED), Schedule(3, 0.1, 2), 0, stop)
    monkeypatch.setattr(type(subject.module), "forward", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(stream, Targets(POSED), Schedule(3, 0.1, 2), 0)
    assert hooks_of(subject) == 0
    assert subject.module.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in subject.module.parameters())


def test_who_can_be_forced_to_anything_is_not_said_to_know() -> None:
    setting = replace(setting_of(), answer_metric="prob")

    class Yes:
        """Says whatever it is fitted to."""

        subject, parameters = subject_of(), ()

        def project(self) -> None: ...

        @contextmanager
        def active(self) -> Iterator[None]:
            yield

    import unlearn.attacks.optimized.fitting as fitting

    asked: list[tuple[str, float]] = []

    def fitted(probe: object) -> Yes:
        asked.append((probe.answer, 0.7 if len(asked) % 2 else 0.9))  # type: ignore[attr-defined]
        return Yes()

    def ask(subject: object, setting: object, probes: list, answer_metric: object = None) -> object:
        from unlearn.attacks.setting.answer_metric import AnswerScores

        assert probes[0].answer == asked[-1][0]
        return AnswerScores(torch.tensor([asked[-1][1]]).numpy(), (probes[0].answer,))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "ask", ask)
        outcome = force_each(setting, "forced", 3, fitted, 5.0)
    assert outcome.known.tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert (outcome.seed, outcome.budget, outcome.counts, outcome.row) == (3, 5.0, False, "per_item")
    truths = [item.probe.answer for item in setting.held_out_items]
    lies = [item.probe.perturbed_answers[0] for item in setting.held_out_items]
    assert [answer for answer, _ in asked] == [text for pair in zip(truths, lies, strict=True) for text in pair]
    assert list(outcome.texts) == truths
