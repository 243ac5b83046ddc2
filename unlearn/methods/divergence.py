"""How far the current model's next-token distributions are from the reference model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn.models.policy import TokenScores

Divergence = Literal["kl", "kl_wagle", "kl_muse"]
_CHUNK = 2**26  # logits worked on at once: 256 MiB in float32


def divergence(kind: Divergence, current: TokenScores, reference: TokenScores) -> Tensor:
    """Return this micro-batch's part of the mean over rows of the mean over a row's positions of D.

    p is the reference model's distribution, q the current one's, z the logits (both [n, V], at the same positions).

    "kl": D = sum_v p log(p / q), in nats: forward KL, which covers all of the reference's mass.
    "kl_wagle": D = -sum_v q log(p + 1e-12) = KL(q || p) + H(q), as in WAGLE's released code: a cross entropy with the
        roles swapped, which also rewards the current model for low entropy.
    "kl_muse": D = sum_v exp(z_ref) (z_ref - z), summed and not averaged over positions, as in MUSE's released code: raw
        logits stand where log-probabilities should, so it is no divergence and may be in the thousands.
    """
    assert current.logits is not None
    assert reference.logits is not None
    values = _chunked(kind, current.logits, reference.logits)
    return current.row_mean(values) if kind == "kl_muse" else current.position_mean(values)


def _chunked(kind: Divergence, logits: Tensor, reference: Tensor) -> Tensor:
    """D of each position: [n]. Where there are several chunks, backward computes each again from its logits."""
    import torch
    from torch.utils.checkpoint import checkpoint

    size = max(1, _CHUNK // logits.shape[-1])
    if len(logits) <= size:
        return _each(kind, logits, reference)
    chunks = zip(logits.split(size), reference.split(size), strict=True)
    return torch.cat([checkpoint(_each, kind, z, z_ref, use_reentrant=False) for z, z_ref in chunks])


def _each(kind: Divergence, logits: Tensor, reference: Tensor) -> Tensor:
    from unlearn.models.projection import precise

    z, z_ref = precise(logits), precise(reference)
    if kind == "kl_muse":
        return (z_ref.exp() * (z_ref - z)).sum(-1)
    if kind == "kl_wagle":
        return -(z.softmax(-1) * (z_ref.softmax(-1) + 1e-12).log()).sum(-1)
    log_p, log_q = z_ref.log_softmax(-1), z.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
