"""Ranks in the vocabulary, against sorting, and the readout against the model's own last layer."""

from __future__ import annotations

import pytest
import torch
from families import family
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from unlearn.attacks.internals import readout
from unlearn.attacks.internals.readout import picks, rank_in, ranks, unembed
from unlearn.models.layout import layout


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 6))
def test_ranks_are_those_of_sorting_with_ties_shared(rows: list[list[int]], token: int) -> None:
    logits = torch.tensor(rows, dtype=torch.float32)
    expected = rankdata(-logits.numpy(), method="average", axis=1)[:, token]
    assert rank_in(logits, torch.full((len(rows),), token)).tolist() == expected.tolist()


def test_the_choice_among_some_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are the states: the first option wins, loses to another (though the vocabulary has better), ties, shares
    its token with an equal option, and is no number.
    """
    states = torch.tensor([[1.0, 2, 9], [1, 2, 9], [2, 2, 9], [2, 1, 9], [torch.nan] * 3])
    options = [(1, 0), (0, 1), (0, 1), (0, 0, 1), (0, 1)]
    for size in (1 << 24, 3):  # all at once, and one at a time
        monkeypatch.setattr(readout, "LOGITS", size)
        assert picks(lambda part: part, states, options).tolist() == [1, 0, 0.5, 0.5, 0]


def test_a_model_that_gives_no_numbers_knows_nothing() -> None:
    assert rank_in(torch.full((1, 9), torch.nan), torch.tensor([3])) >= 9


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "gemma2", "opt", "gpt_neox"])
def test_the_last_state_reads_as_the_model_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = family(name), torch.tensor([[7, 3, 60, 21], [9, 9, 1, 33]])
    states: list[torch.Tensor] = []
    final = layout(model).final_norm
    handle = final.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0].detach()))
    with torch.no_grad():
        logits = model(ids).logits.flatten(0, 1)
    handle.remove()
    tokens = torch.tensor([5, 0, 63, 8, 8, 2, 30, 11])
    own = logits[torch.arange(8), tokens]
    expected = 1 + (logits > own[:, None]).sum(1)
    for size in (1 << 24, 1):  # all at once, and one at a time
        monkeypatch.setattr(readout, "LOGITS", size)
        assert ranks(unembed(model), states[0].flatten(0, 1), tokens).tolist() == expected.tolist()
    assert ranks(unembed(model), torch.empty(0, 16), torch.empty(0, dtype=torch.long)).shape == (0,)
