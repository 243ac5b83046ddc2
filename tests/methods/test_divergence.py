from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from unlearn.methods import divergence as module
from unlearn.methods.divergence import divergence
from unlearn.models.batches import Segment
from unlearn.models.policy import TokenScores

logits = arrays(np.float64, (3, 5), elements=st.floats(-30, 30))


def scores(z: Tensor | np.ndarray, positions: list[list[bool]], total_rows: int) -> TokenScores:
    mask = torch.tensor(positions)
    segment = Segment(0, len(mask), total_rows, 99)
    return TokenScores(torch.zeros(mask[:, 1:].shape), mask[:, 1:], segment, torch.as_tensor(z), mask)


POSITIONS = [[True, True, False], [True, False, False]]  # the first two distributions are of row 0, the last of row 1


@given(logits, logits)
def test_kl_is_the_mean_of_row_means(z: np.ndarray, z_ref: np.ndarray) -> None:
    value = divergence("kl", scores(z, POSITIONS, 2), scores(z_ref, POSITIONS, 2)).item()
    each = (softmax(z_ref, -1) * (log_softmax(z_ref, -1) - log_softmax(z, -1))).sum(-1)
    assert value == pytest.approx(((each[0] + each[1]) / 2 + each[2]) / 2, abs=1e-9)
    assert value >= -1e-12


@given(logits)
def test_kl_from_itself_is_zero_whatever_constant_is_added(z: np.ndarray) -> None:
    value = divergence("kl", scores(z + 3, POSITIONS, 2), scores(z, POSITIONS, 2))
    assert value.item() == pytest.approx(0, abs=1e-12)


def test_direction_is_reference_first() -> None:
    """A current model that gives no mass to what the reference says pays for it; the other way round it would not."""
    certain, split = np.array([[20.0, 0.0]]), np.array([[0.0, 0.0]])
    here = [[True]]
    low = divergence("kl", scores(split, here, 1), scores(certain, here, 1)).item()
    high = divergence("kl", scores(certain, here, 1), scores(split, here, 1)).item()
    assert low == pytest.approx(np.log(2), abs=1e-6)
    assert high == pytest.approx(10 - np.log(2), abs=1e-6)


def test_the_rows_of_the_whole_step_divide() -> None:
    z, z_ref = np.random.default_rng(0).normal(size=(2, 3, 5))
    two = divergence("kl", scores(z, POSITIONS, 2), scores(z_ref, POSITIONS, 2))
    ten = divergence("kl", scores(z, POSITIONS, 10), scores(z_ref, POSITIONS, 10))
    torch.testing.assert_close(ten, two / 5)


def test_kl_wagle_is_a_cross_entropy_with_the_roles_swapped() -> None:
    z, z_ref = np.random.default_rng(0).normal(size=(2, 1, 5))
    value = divergence("kl_wagle", scores(z, [[True]], 1), scores(z_ref, [[True]], 1)).item()
    p, q = softmax(z_ref[0]), softmax(z[0])
    assert value == pytest.approx(entropy(q, p) + entropy(q), rel=1e-9)


def test_kl_muse_sums_raw_logits_over_positions() -> None:
    z, z_ref = np.random.default_rng(0).normal(size=(2, 3, 5))
    value = divergence("kl_muse", scores(z, POSITIONS, 2), scores(z_ref, POSITIONS, 2)).item()
    assert value == pytest.approx((np.exp(z_ref) * (z_ref - z)).sum() / 2)


@pytest.mark.parametrize("kind", ["kl", "kl_wagle", "kl_muse"])
def test_chunks_change_nothing(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    z, z_ref = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for chunk in (2**26, 10, 1):  # all three positions, two, one at a time
        monkeypatch.setattr(module, "_CHUNK", chunk)
        mine = z.clone().requires_grad_()
        value = divergence(kind, scores(mine, POSITIONS, 2), scores(z_ref, POSITIONS, 2))
        value.backward()
        results.append((value.detach(), mine.grad))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_half_precision_logits_are_compared_in_float32() -> None:
    z, z_ref = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    value = divergence("kl", scores(z, POSITIONS, 2), scores(z_ref, POSITIONS, 2))
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, divergence("kl", scores(z.float(), POSITIONS, 2), scores(z_ref.float(), POSITIONS, 2))
    )


def test_no_positions_give_zero() -> None:
    empty = scores(torch.zeros(0, 5), [[False, False, False]], 2)
    assert divergence("kl", empty, empty).item() == 0
