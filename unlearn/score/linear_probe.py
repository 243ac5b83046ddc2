"""Linear probes in closed form: ridge regression to one-hot labels, all layers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

PENALTIES = tuple(10.0**power for power in range(-1, 7))
_RESOLUTION = 1e-6  # what float32 features resolve, relative to their size: a feature that varies less is constant


@dataclass(frozen=True)
class Ridge:
    """A linear probe for each of L layers (any leading shape, or none): scores = (x - mean) / std @ weight + bias.

    All float64.
    """

    mean: Tensor
    """Of the training features, [L, 1, d]."""
    std: Tensor
    """Their population std, [L, 1, d]; 1 where a feature is constant."""
    weight: Tensor
    """[L, d, C]."""
    bias: Tensor
    """The share of each class in training, [C]."""
    penalty: Tensor
    """That of each layer, [L]."""

    def scores(self, features: Tensor) -> Tensor:
        """Return class scores [L, n, C] of features [L, n, d]."""
        return (features.double() - self.mean) / self.std @ self.weight + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the share [L] of the rows of features [L, n, d] whose highest score is that of their label [n]."""
        return (self.scores(features).argmax(-1) == labels).double().mean(-1)


def fit(features: Tensor, labels: Tensor, penalties: Sequence[float] = PENALTIES, classes: int | None = None) -> Ridge:
    """Return the probe W = (Z'Z + penalty I)^-1 Z'(Y - mean Y), Z the standardised features, Y the one-hot labels.

    features: [L, n, d] (any leading shape, or none); labels: int64 [n] in 0..C-1; classes: C, where not all of them
    occur. Of several penalties (> 0) each layer gets the one with the least leave-one-out error. Solved in float64
    through the smaller of the two Gram matrices: [d, d], or for n < d the dual W = Z'(ZZ' + penalty I)^-1 (Y - mean Y)
    with [n, n].
    """
    x = features.double()
    y = F.one_hot(labels, -1 if classes is None else classes).double()
    mean, std = x.mean(-2, keepdim=True), x.std(-2, keepdim=True, correction=0)
    std = torch.where(std > _RESOLUTION * mean.abs(), std, 1.0)
    z, centred, bias = (x - mean) / std, y - y.mean(0), y.mean(0)
    choice = x.new_tensor(penalties)
    best = leave_one_out(z, centred, choice).argmin(0) if len(choice) > 1 else x.new_zeros(x.shape[:-2]).long()
    penalty = choice[best]
    dual = z.shape[-2] < z.shape[-1]
    gram, target = (z @ z.mT, centred.expand(*z.shape[:-1], -1)) if dual else (z.mT @ z, z.mT @ centred)
    gram.diagonal(dim1=-2, dim2=-1).add_(penalty[..., None])
    weight = torch.cholesky_solve(target, torch.linalg.cholesky(gram))
    return Ridge(mean, std, z.mT @ weight if dual else weight, bias, penalty)


def leave_one_out(z: Tensor, target: Tensor, penalties: Tensor) -> Tensor:
    """Return the mean squared error [P, L] of each row's prediction by a ridge that never saw it.

    The ridge has an intercept. z: [L, n, d], of mean 0; target: [n, C], of mean 0; penalties: [P]. From one
    eigendecomposition: the error of row i is its residual / (1 - h_i), with h_i what the row says in its own
    prediction.
    """
    n, d = z.shape[-2:]
    values, vectors = torch.linalg.eigh(z @ z.mT if n < d else z.mT @ z)
    values = values.clamp(min=0)
    basis = vectors * values.sqrt()[..., None, :] if n < d else z @ vectors  # [L, n, r], basis' basis = diag(values)
    errors = []
    for penalty in penalties:
        kept = basis / (values + penalty)[..., None, :]
        residual = target - kept @ (basis.mT @ target)
        own = (kept * basis).sum(-1, keepdim=True) + 1 / n
        errors.append((residual / (1 - own)).square().mean((-2, -1)))
    return torch.stack(errors)


@dataclass(frozen=True)
class Probed:
    """How well labels can be read off each of L layers."""

    probe: Ridge
    """The probes that do it."""
    train: Tensor
    """Accuracy on the rows they were fitted to, [L]."""
    test: Tensor
    """Accuracy on the others, [L]."""
    control: Tensor
    """Test accuracy of probes fitted to shuffled labels, [L]. It is what a probe of this size reads into chance
    (Hewitt and Liang 2019)."""


def probe(
    features: Tensor, labels: Tensor, train: Tensor, penalties: Sequence[float], generator: torch.Generator
) -> Probed:
    """Fit on the rows where `train` [n] is True and test on the others: features [L, n, d], labels int64 [n].

    `generator` (CPU) shuffles the labels of the control.
    """
    classes = int(labels.max()) + 1
    shuffled = labels[torch.randperm(len(labels), generator=generator).to(labels.device)]
    fitted, control = (fit(features[..., train, :], y[train], penalties, classes) for y in (labels, shuffled))
    return Probed(
        fitted,
        fitted.accuracy(features[..., train, :], labels[train]),
        fitted.accuracy(features[..., ~train, :], labels[~train]),
        control.accuracy(features[..., ~train, :], shuffled[~train]),
    )
