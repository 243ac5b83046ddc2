"""Find the k highest of many scores, exactly, for several k at once: no sorting, no tensor of all scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.models.mask import Mask, pack
from unlearn.runtime.errors import UserError

Score = Callable[[str], Tensor]
"""From a tensor's name to its scores, float32 in the tensor's shape, on any device; their sign does not count."""

CHUNK_CPU, CHUNK_GPU = 1 << 18, 1 << 24  # looked at once: what a processor's cache holds, what keeps a GPU busy
_INFINITE = 0x7F80  # the upper 16 bits of an infinite float32; those of a nan are as high or higher


@dataclass(frozen=True)
class Selection:
    """Hold a mask of the highest scores."""

    mask: Mask
    """The weights that are selected."""
    scored: int
    """Weights that have a score."""
    threshold: float | None = None
    """The lowest selected score; None where no score was looked at."""
    zeros: int = 0
    """Scores that are 0."""
    zeros_selected: int = 0
    """Those of them that are selected all the same, for want of others."""


@dataclass
class _Cut:
    """Where the k highest scores end."""

    pattern: int
    """The bit pattern of the last score that is selected."""
    ties: int
    """How many scores of this pattern are still to be selected."""


def select(
    shapes: Mapping[str, tuple[int, ...]], scored: Sequence[str], score: Score, fractions: Sequence[float]
) -> list[Selection]:
    """Return for each fraction the mask of the k = floor(fraction N) highest of the N scores of the tensors `scored`.

    shapes: of all of the model's parameters; `scored` are some of them, in the model's order. Equal scores are taken in
    the order of tensors, then of flat index. Radix select: non-negative floats are ordered as their bit patterns, so a
    histogram of the upper 16 bits finds the bucket of the k-th highest score, and one of the lower 16 bits within that
    bucket the score itself. `score` is asked three times for each tensor, and not at all where all are selected.

    UserError where a score is infinite or nan, or where a fraction is less than one weight.
    """
    total = sum(math.prod(shapes[name]) for name in scored)
    counts = how_many(total, fractions)
    if all(count == total for count in counts):
        whole = Mask(shapes, {name: name in scored for name in shapes})
        return [Selection(whole, total) for _ in counts]
    upper, zeros = _upper_histogram(scored, score)
    buckets = [_highest(upper, count) for count in counts]
    lower = _lower_histograms(scored, score, {bucket for bucket, _ in buckets})
    cuts = []
    for count, (bucket, above) in zip(counts, buckets, strict=True):
        low, above_low = _highest(lower[bucket], count - above)
        cuts.append(_Cut(bucket << 16 | low, count - above - above_low))
    ties = [cut.ties for cut in cuts]
    masks = _masks(shapes, scored, score, cuts)
    thresholds = [torch.tensor(cut.pattern, dtype=torch.int32).view(torch.float32).item() for cut in cuts]
    return [
        Selection(mask, total, threshold, zeros, 0 if threshold else tied)
        for mask, threshold, tied in zip(masks, thresholds, ties, strict=True)
    ]


def how_many(total: int, fractions: Sequence[float]) -> list[int]:
    """Return floor(fraction * total) of each fraction; UserError where that is 0."""
    counts = [int(total * fraction) for fraction in fractions]
    for fraction, count in zip(fractions, counts, strict=True):
        if not count:
            raise UserError(f"a share of {fraction} to select is less than one weight: {total:,} weights are scored")
    return counts


def _patterns(score: Tensor) -> Iterator[Tensor]:
    """Yield the bit patterns of the scores without their sign, int32, in chunks of whole bytes of mask."""
    assert score.dtype == torch.float32
    size = CHUNK_CPU if score.device.type == "cpu" else CHUNK_GPU
    for chunk in score.flatten().view(torch.int32).split(size):
        yield chunk & 0x7FFFFFFF


def _upper_histogram(scored: Sequence[str], score: Score) -> tuple[Tensor, int]:
    """Return how many scores have each upper half, int64 [32768], and how many are 0."""
    histogram, zeros = torch.zeros(1 << 15, dtype=torch.int64), 0
    for name in scored:
        mine = torch.zeros_like(histogram)
        for bits in _patterns(score(name)):
            mine += torch.bincount(bits >> 16, minlength=1 << 15).cpu()
            zeros += len(bits) - int(torch.count_nonzero(bits))
        if mine[_INFINITE:].any():
            raise UserError(f"the scores of '{name}' are not finite: the model's weights or its gradients overflow")
        histogram += mine
    return histogram, zeros


def _lower_histograms(scored: Sequence[str], score: Score, buckets: set[int]) -> dict[int, Tensor]:
    """Return for each upper half in `buckets` how many scores have each lower half with it, int64 [65536]."""
    histograms = {bucket: torch.zeros(1 << 16, dtype=torch.int64) for bucket in buckets}
    for name in scored:
        for bits in _patterns(score(name)):
            upper = bits >> 16
            for bucket, histogram in histograms.items():
                inside = bits[upper == bucket]
                histogram += torch.bincount(inside & 0xFFFF, minlength=1 << 16).cpu()
    return histograms


def _highest(histogram: Tensor, count: int) -> tuple[int, int]:
    """Return the bin in which the count-th highest value lies, and how many values lie in higher bins."""
    above = histogram.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, count))
    return len(histogram) - 1 - place, int(above[place - 1]) if place else 0


def _masks(
    shapes: Mapping[str, tuple[int, ...]], scored: Sequence[str], score: Score, cuts: Sequence[_Cut]
) -> list[Mask]:
    """Return the mask of each cut, packed tensor by tensor."""
    tensors: list[dict[str, bool | Tensor]] = [dict.fromkeys(shapes, False) for _ in cuts]
    for name in scored:
        packed: list[list[Tensor]] = [[] for _ in cuts]
        selected = [0] * len(cuts)
        for bits in _patterns(score(name)):
            for i, cut in enumerate(cuts):
                chosen = _chosen(bits, cut)
                selected[i] += int(torch.count_nonzero(chosen))
                packed[i].append(pack(chosen))
        for i, count in enumerate(selected):
            whole = count in (0, math.prod(shapes[name]))
            tensors[i][name] = count > 0 if whole else torch.cat(packed[i])
    return [Mask(shapes, selected) for selected in tensors]


def _chosen(bits: Tensor, cut: _Cut) -> Tensor:
    """Return which of the patterns are selected; take the ties among them off those that the cut still has to give."""
    higher = bits > cut.pattern
    if not cut.ties:
        return higher
    tied = bits == cut.pattern
    given = min(int(torch.count_nonzero(tied)), cut.ties)
    if given == cut.ties:  # the last ones: from here on none is left
        tied &= tied.cumsum(0) <= given
    cut.ties -= given
    return higher | tied
