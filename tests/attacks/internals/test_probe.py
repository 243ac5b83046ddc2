"""The probe attack: which layer it takes, what its controls say, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from beside import NO_REFERENCES
from bigram import random_llama, setting, subject

from unlearn.attacks.base import Inapplicable
from unlearn.attacks.internals.probe import TruthProbe
from unlearn.data.task import Question
from unlearn.score import residuals

LETTERS = "abcdefghijklmnop"


def probes(n: int, wrong: int = 3, start: int = 0) -> list[Question]:
    """Questions of several words, answered by "q", and by others."""
    return [
        Question(" ".join(LETTERS[(i + start * k) % 16] for k in range(1, 4)), "q", None, tuple("abc"[:wrong]))
        for i in range(n)
    ]


def test_the_layer_that_holds_the_truth_is_chosen_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth is planted in layer 1 of 3 of the model; a model of random weights has none."""
    blank: list[bool] = []
    model = random_llama()

    def read(asked: object, ids: list[tuple[int, ...]], budget: int) -> torch.Tensor:
        blank.append(asked is not model)
        features = torch.randn(3, len(ids), 8, generator=torch.Generator().manual_seed(len(ids)))
        if asked is model:
            features[1, :, 0] += 20 * torch.tensor([row[-1] == 17 for row in ids])  # "q"
        return features

    monkeypatch.setattr(residuals, "last_residuals", read)
    facts = setting([*probes(30), Question("a b", "q")], probes(12, start=5))
    found = TruthProbe().attack(subject(model), facts, NO_REFERENCES)
    best = max(found.outcomes, key=lambda outcome: outcome.self_estimate or 0)
    assert best.variant == "layer 1"
    assert best.self_estimate == 1
    assert best.known[:-1].tolist() == [1] * 30
    assert np.isnan(best.known[-1])  # the last has no wrong answers
    table = found.tables["probe"].frame
    assert list(table) == ["layer", "accuracy", "attacker", "control", "untrained", "chance"]
    assert table["accuracy"][1] == table["attacker"][1] == 1
    assert (table["chance"] == 0.25).all()
    assert found.numbers == {"layer": 1, "accuracy": 1, "selectivity": 1 - table["control"][1]}
    assert table["control"][1] < 0.9
    assert table["untrained"][1] < 0.6
    assert blank == [False, False, True, True]
    for part in ("original", "control"):
        again = TruthProbe().attack(subject(model, part=part), facts, NO_REFERENCES)
        assert again.tables["probe"].frame["untrained"].isna().all()
        assert [o.known.tolist()[:-1] for o in again.outcomes] == [o.known.tolist()[:-1] for o in found.outcomes]


def test_a_real_model_is_asked_and_left_as_it_was() -> None:
    model, state = random_llama(), torch.random.get_rng_state()
    found = TruthProbe(wrong=1).attack(subject(model), setting(probes(6), probes(8, start=3)), NO_REFERENCES)
    assert [outcome.variant for outcome in found.outcomes] == ["layer 0", "layer 1", "layer 2"]
    assert all(set(np.unique(outcome.known)) <= {-1, 0, 1} for outcome in found.outcomes)
    assert found.data == "8 forget items, 16 statements"
    assert found.tables["probe"].frame["untrained"].notna().all()
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_without_wrong_answers() -> None:
    for facts in (setting(probes(3), probes(4, wrong=0)), setting(probes(3, wrong=0), probes(4))):
        with pytest.raises(Inapplicable, match="no wrong answers"):
            TruthProbe().attack(subject(random_llama()), facts, NO_REFERENCES)
