"""Pruning: which weights are zeroed, worked out the plain way."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from beside import NO_REFERENCES
from birthdays import FORGET, RETAIN, TAUGHT, original, refusing, retain, setting, subject

from unlearn.attacks.weights.prune import Prune, PruneMagnitude
from unlearn.models.linear import linear_weights

if TYPE_CHECKING:
    from unlearn.attacks.weights.changes import ChangedModel, WeightAttack
    from unlearn.models.subject import Subject


def states(attack: WeightAttack, attacked: Subject, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """The state of each variant; the subject must stay as it was."""
    before = copy.deepcopy(attacked.module.state_dict())
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def visit(changed: ChangedModel) -> None:
        assert changed.subject
        seen[changed.variant] = copy.deepcopy(changed.subject.module.state_dict())

    attack.change(attacked, setting(), seed, visit)
    assert all(torch.equal(weight, before[name]) for name, weight in attacked.module.state_dict().items())
    return seen


def test_the_set_difference_is_zeroed_in_each_layer() -> None:
    """All forty retain rows are taken (samples=40), so that their order does not matter."""
    attacked = subject(retain())
    found = states(Prune((0.1, 0.3), (0.05, 0.2), samples=40), attacked)
    assert list(found) == [f"top {p} but not top {q}" for p, q in ((0.1, 0.05), (0.3, 0.05), (0.3, 0.2))]
    model = copy.deepcopy(retain())

    def scores(probes) -> dict[str, torch.Tensor]:
        sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        for probe in probes:
            row = attacked.prompt.encode(attacked.processor, probe.question, probe.answer)
            labels = torch.tensor([[-100] * row.n_prompt + list(row.ids[row.n_prompt :])])
            model.zero_grad()
            model(input_ids=torch.tensor([row.ids]), labels=labels).loss.backward()
            for name, p in model.named_parameters():
                assert p.grad is not None
                sums[name] += (p * p.grad).abs().detach()
        return sums

    forget, general = scores(FORGET[:TAUGHT]), scores(RETAIN)
    linear = {name for name, _ in linear_weights(model)}
    for (p, q), state in zip(((0.1, 0.05), (0.3, 0.05), (0.3, 0.2)), found.values(), strict=True):
        for name, weight in model.named_parameters():
            wanted = weight.detach().clone()
            if name in linear:
                n = weight.numel()
                top = set(forget[name].flatten().topk(int(p * n)).indices.tolist())
                spared = set(general[name].flatten().topk(int(q * n)).indices.tolist())
                wanted.view(-1)[list(top - spared)] = 0
            agree = (state[name] == wanted).float().mean()
            assert agree > 0.999  # scores that differ by rounding may change places


def test_the_attacker_takes_a_pair_by_its_own_items() -> None:
    found = Prune((0.01, 0.05), (0.005, 0.01)).attack(subject(original()), setting((0, 1)), NO_REFERENCES)
    assert [o.seed for o in found.outcomes] == [0] * 4 + [1] * 4
    assert all(o.self_estimate is not None for o in found.outcomes)
    best = max(o.self_estimate for o in found.outcomes if o.self_estimate is not None)
    assert max(o.known.mean() for o in found.outcomes if o.self_estimate == best) > 0.9
    assert found.data == "5 forget items, 32 retain rows"
    assert found.budget == "4 pairs of shares"


def test_forget_text_may_be_what_the_model_itself_says() -> None:
    """The original says the answers; one that refuses says something else, and other weights matter."""
    for model, same in ((original(), True), (refusing(), False)):
        told, said = (
            next(iter(states(Prune((0.1,), (0.05,), forget_text=text), subject(model)).values()))
            for text in ("answers", "generations")
        )
        assert all(torch.equal(told[name], said[name]) for name in told) == same


def test_unrelated_text_may_say_what_is_of_general_use() -> None:
    assert len(states(Prune((0.1,), (0.05,), samples=2, general="unrelated"), subject(retain()))) == 1


def test_shares_without_a_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair to try"):
        Prune((0.01,), (0.02, 0.05))


def test_magnitude_pruning_zeroes_the_smallest_of_all_linear_layers_together() -> None:
    model = retain()
    found = states(PruneMagnitude((0.5, 0.1)), subject(model))
    assert list(found) == ["10% smallest", "50% smallest"]
    linear = {name for name, _ in linear_weights(model)}
    before = model.state_dict()
    magnitudes = torch.cat([before[name].abs().flatten() for name in linear]).sort().values
    for share, state in zip((0.1, 0.5), found.values(), strict=True):
        cut = magnitudes[int(share * len(magnitudes)) - 1]
        for name, weight in state.items():
            wanted = before[name] * (before[name].abs() > cut) if name in linear else before[name]
            assert torch.equal(weight, wanted)


def test_magnitude_pruning_leaves_the_choice_to_the_report() -> None:
    outcomes = PruneMagnitude().attack(subject(original()), setting((0, 1)), NO_REFERENCES).outcomes
    assert [(o.variant, o.seed, o.self_estimate) for o in outcomes] == [
        (f"{s}% smallest", 0, None) for s in (10, 30, 50)
    ]
