"""Ridge probes against numpy's normal equations, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.score.linear_probe import fit, leave_one_out, probe


def data(layers: int, n: int, d: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=generator)])
    return torch.randn(layers, n, d, generator=generator) * 3 + 5, labels


def by_hand(x: np.ndarray, labels: np.ndarray, penalty: float, new: np.ndarray) -> np.ndarray:
    """Scores of `new` from a least-squares problem with penalty rows, written out for one layer."""
    y = np.eye(labels.max() + 1)[labels]
    z = (x - x.mean(0)) / x.std(0)
    rows = np.vstack([z, np.sqrt(penalty) * np.eye(x.shape[1])])
    weight = np.linalg.lstsq(rows, np.vstack([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0]
    scores: np.ndarray = (new - x.mean(0)) / x.std(0) @ weight + y.mean(0)
    return scores


@pytest.mark.parametrize(("n", "d"), [(30, 7), (9, 20), (12, 12)])
def test_scores_are_those_of_penalised_least_squares(n: int, d: int) -> None:
    x, labels = data(3, n, d, 4, seed=n)
    new, _ = data(3, 5, d, 4, seed=1)
    scores = fit(x, labels, (0.7,)).scores(new)
    for layer in range(3):
        expected = by_hand(x[layer].double().numpy(), labels.numpy(), 0.7, new[layer].double().numpy())
        np.testing.assert_allclose(scores[layer], expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 12), st.integers(1, 14), st.integers(2, 4), st.floats(1e-2, 1e3), st.integers(0, 99))
def test_the_dual_is_the_primal(n: int, d: int, classes: int, penalty: float, seed: int) -> None:
    """Padding with constant features makes d exceed n, and so the dual solve, without changing any score."""
    x, labels = data(1, n, d, classes, seed)
    wide = torch.cat([x, torch.full((1, n, n + 1), 2.5)], dim=-1)
    torch.testing.assert_close(
        fit(x, labels, (penalty,)).scores(x), fit(wide, labels, (penalty,)).scores(wide), rtol=1e-7, atol=1e-9
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-2, 1e2), st.floats(-50, 50), st.floats(1e-3, 1e2), st.integers(0, 99))
def test_scale_and_offset_of_features_do_not_matter(scale: float, offset: float, penalty: float, seed: int) -> None:
    x, labels = data(1, 20, 6, 3, seed)
    moved = x.double() * scale + offset
    torch.testing.assert_close(
        fit(x, labels, (penalty,)).scores(x), fit(moved, labels, (penalty,)).scores(moved), rtol=1e-6, atol=1e-8
    )


def test_scores_of_a_row_sum_to_one_and_a_huge_penalty_leaves_the_class_shares() -> None:
    x, labels = data(2, 25, 6, 3, seed=4)
    torch.testing.assert_close(fit(x, labels).scores(x).sum(-1), torch.ones(2, 25, dtype=torch.float64))
    shares = torch.bincount(labels).double() / 25
    torch.testing.assert_close(fit(x, labels, (1e12,)).scores(x), shares.expand(2, 25, 3), atol=1e-8, rtol=0)


def test_layers_are_fitted_apart_and_a_single_layer_needs_no_batch() -> None:
    x, labels = data(3, 20, 6, 3, seed=5)
    torch.testing.assert_close(fit(x, labels).weight[1], fit(x[1], labels).weight)


def test_a_constant_feature_has_no_say() -> None:
    x, labels = data(1, 20, 4, 2, seed=6)
    x[..., 2] = 1234.567
    fitted = fit(x, labels)
    assert fitted.weight[0, 2].abs().max() < 1e-6
    moved = x.clone()
    moved[..., 2] += 1
    torch.testing.assert_close(fitted.scores(moved), fitted.scores(x), atol=1e-6, rtol=0)


def test_probing_reads_what_is_there_and_the_control_does_not() -> None:
    """Layer 0 is noise, layer 1 holds the label: test accuracy is chance and 1, the control's is chance in both."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    features = torch.randn(2, 600, 8, generator=generator)
    features[1, :, :3] += 9 * torch.eye(3)[labels]
    probed = probe(features, labels, torch.arange(600) < 400, (1.0,), generator)
    assert probed.test[1] == probed.train[1] == 1
    chance = torch.stack([probed.test[0], *probed.control])
    torch.testing.assert_close(chance, torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.12, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(14, 5), (9, 20)])
def test_leave_one_out_is_what_leaving_one_out_gives(n: int, d: int) -> None:
    """Each row predicted by a ridge with an intercept, solved without that row."""
    x, labels = data(1, n, d, 3, seed=n)
    z = x[0].double().numpy()
    z = (z - z.mean(0)) / z.std(0)
    y = np.eye(3)[labels] - np.eye(3)[labels].mean(0)
    penalties = [0.5, 40.0]
    found = leave_one_out(torch.tensor(z)[None], torch.tensor(y), torch.tensor(penalties, dtype=torch.float64))
    for penalty, error in zip(penalties, found[:, 0].tolist(), strict=True):
        squares = []
        for i in range(n):
            rest = np.delete(np.arange(n), i)
            a, b = z[rest] - z[rest].mean(0), y[rest] - y[rest].mean(0)
            weight = np.linalg.solve(a.T @ a + penalty * np.eye(d), a.T @ b)
            squares.append((y[i] - y[rest].mean(0) - (z[i] - z[rest].mean(0)) @ weight) ** 2)
        assert error == pytest.approx(np.mean(squares), rel=1e-9)


def test_each_layer_gets_the_penalty_of_least_error() -> None:
    """A label written plainly wants a small penalty, one among noise a large one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    features = torch.randn(2, 60, 100, generator=generator)
    features[0, :, :40] = labels[:, None] + 0.1 * features[0, :, :40]
    fitted = fit(features, labels)
    assert fitted.penalty[0] < fitted.penalty[1]
    alone = fit(features[1], labels, (fitted.penalty[1].item(),))
    torch.testing.assert_close(fitted.weight[1], alone.weight)
