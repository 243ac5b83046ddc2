"""Latent attack: what is added to the residual stream never exceeds epsilon, and it makes the model answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from beside import NO_REFERENCES
from families import FAMILIES, family
from helpers import RUN
from prompted import PAIRS, hooks_of, setting_of, subject_of

from unlearn.attacks.optimized.latent import (
    Latent,
    LowRank,
    Positions,
    Stream,
    Vector,
    median_norms,
    stream_sites,
)
from unlearn.data.history import KNOWN
from unlearn.models.sites import edited
from unlearn.runtime.errors import UserError
from unlearn.score.generate import generate
from unlearn.score.likelihood import likelihoods

if TYPE_CHECKING:
    from unlearn.models.subject import Subject

SMALL = Latent(layers=(0.0, 0.5), epsilons=(0.1, 0.5), steps=6, batch=2, rank=4)
CPU = torch.device("cpu")


def change(subject: Subject, stream: Stream, ids: torch.Tensor) -> list[torch.Tensor]:
    """What each shift adds at its site [B, T, d], seen from outside."""
    added = []
    for site, shift in stream.shifts:
        seen: list[torch.Tensor] = []

        def look(h: torch.Tensor, shift: object = shift, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            new: torch.Tensor = shift(h)  # type: ignore[operator]
            seen.append(new - h)
            return new

        with torch.no_grad(), edited((site, look)):
            subject.module(input_ids=ids)
        added += seen
    return added


@pytest.mark.parametrize("kind", ["vector", "map", "per_item"])
@pytest.mark.parametrize("lr", [0.1, 5.0])
def test_the_perturbation_never_exceeds_epsilon(kind: Literal["vector", "map", "per_item"], lr: float) -> None:
    subject, setting = subject_of(), setting_of()
    sites = stream_sites(subject, (0.0, 0.5))
    prompts = subject.prompt.encode_prompts(subject.processor, [item.probe.question for item in setting.attacker_items])
    medians = median_norms(subject, sites, prompts)
    probes = [item.probe for item in setting.attacker_items][: 1 if kind == "per_item" else None]
    stream = replace(SMALL, kind=kind, lr=lr)._fitted(subject, setting, probes, sites, medians, 0.2, 0)
    ids = torch.tensor([prompts[0]])
    for added, median in zip(change(subject, stream, ids), medians, strict=True):
        norms = added.norm(dim=-1)
        assert float(norms.max()) <= 0.2 * median * (1 + 1e-4)
        assert float(norms.min()) > 0


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_norms_are_medians_of_hidden_states_in_every_family(name: str) -> None:
    subject = replace(subject_of(), module=family(name))
    prompts = [[5, 6, 7, 8], [9, 10]]
    found = median_norms(subject, stream_sites(subject, (1 / 3, 2 / 3)), prompts)
    for layer, median in zip((1, 2), found, strict=True):
        norms = []
        for prompt in prompts:
            with torch.no_grad():
                hidden = subject.module(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states
            norms += hidden[layer][0].norm(dim=-1).tolist()
        assert median == pytest.approx(sorted(norms)[2], rel=1e-4)  # the lower middle of six


def test_layers_that_fall_together_count_once() -> None:
    subject = subject_of()  # of two blocks
    assert len(stream_sites(subject, (0.0, 0.1, 0.5, 0.6, 1.0))) == 3
    other: Any = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="layout"):
        stream_sites(replace(subject, module=other), (0.0,))


def test_a_vector_at_the_embeddings_is_a_shift_of_the_table() -> None:
    subject, moved = subject_of(), subject_of()
    v = torch.randn(16, generator=torch.Generator().manual_seed(0))
    stream = Stream(subject, [(stream_sites(subject, (0.0,))[0], Vector(16, 2.0, CPU))])
    stream.parameters[0].data = v
    embeddings: Any = moved.module.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight.add_(2.0 * v)
    rows = subject.prompt.encode_all(subject.processor, PAIRS)
    prompts = [list(row.ids[: row.n_prompt]) for row in rows]
    expected = likelihoods(moved.module, [[row] for row in rows], 0, 512)
    texts = generate(moved.module, moved.processor, prompts, 5, 512)
    with stream.active():
        for a, b in zip(likelihoods(subject.module, [[row] for row in rows], 0, 512), expected, strict=True):
            assert a[0].logp == pytest.approx(b[0].logp, abs=1e-4)
        assert generate(subject.module, subject.processor, prompts, 5, 512) == texts
    assert hooks_of(subject) == 0


def test_a_low_rank_map_starts_at_nothing_and_has_its_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    shift = LowRank(3, 16, 1e9, 4.0, CPU, generator)
    h = torch.randn(1, 40, 16, generator=generator)
    assert torch.equal(shift(h), h)
    shift.b.data = torch.randn(16, 3, generator=generator) * 1e-3
    added = (shift(h) - h)[0].detach()
    torch.testing.assert_close(added, 1e9 * (h[0] / (4.0 / 4)) @ shift.a.T @ shift.b.T, rtol=1e-3, atol=10.0)
    assert int(torch.linalg.matrix_rank(added.double(), rtol=1e-4)) == 3


def test_positions_of_the_prompt_are_moved_and_what_is_generated_is_not() -> None:
    shift = Positions(2, 4, 3.0, CPU)
    shift.vectors.data = torch.eye(2, 4)
    h = torch.zeros(1, 3, 4)
    assert shift(h)[0].tolist() == [[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]]
    assert shift(h[:, :1]).tolist() == h[:, :1].tolist()


@pytest.mark.parametrize("kind", ["vector", "map"])
def test_it_makes_the_answers_likelier_the_more_it_may(kind: Literal["vector", "map"]) -> None:
    subject, setting = subject_of(), replace(setting_of(), answer_metric="prob")
    attack = replace(SMALL, kind=kind, epsilons=(1e-4, 0.3), steps=20)
    weak, strong = attack.attack(subject, setting, NO_REFERENCES).outcomes
    assert strong.on_attacker_items is not None
    assert weak.on_attacker_items is not None
    assert strong.on_attacker_items > weak.on_attacker_items
    assert (weak.budget, strong.budget) == (1e-4, 0.3)


def test_every_model_gives_the_same_outcomes_and_is_left_alone() -> None:
    subject, setting = subject_of(), setting_of(scored=2, seeds=(0, 1))
    before = [parameter.detach().clone() for parameter in subject.module.parameters()]
    for attack in (SMALL, replace(SMALL, kind="per_item"), replace(SMALL, away=0.5)):
        outcomes = attack.attack(subject, setting, NO_REFERENCES).outcomes
        assert [(o.variant, o.seed) for o in outcomes] == [
            (f"epsilon {e}", seed) for seed in (0, 1) for e in (0.1, 0.5)
        ]
        assert all(o.counts == (attack.kind != "per_item") for o in outcomes)
    assert all(torch.equal(a, b) for a, b in zip(before, subject.module.parameters(), strict=True))
    assert hooks_of(subject) == 0


def test_bad_input_is_told_before_any_model_is_loaded() -> None:
    task = setting_of().task
    mute = replace(task, sets={"forget": task.sets["forget"]}, history=KNOWN)
    SMALL.check(mute, RUN)
    with pytest.raises(UserError, match="refusals"):
        replace(SMALL, away=1.0).check(mute, RUN)
    bare = replace(task.probes[0], probes=tuple(replace(p, perturbed_answers=()) for p in task.probes[0].probes))
    with pytest.raises(UserError, match="wrong answers"):
        replace(SMALL, kind="per_item").check(replace(task, probes=(bare,)), RUN)
