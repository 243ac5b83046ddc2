"""Fake quantisation: weights as low-precision formats would give them back, on any machine, deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["int8", "int4", "nf4", "fp4"]
INT4_GROUP, BLOCK = 64, 64
_NF4 = (
    *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
)
_FP4 = (0.0, 0.0052083, 0.1666667, 0.25, 0.3333333, 0.5, 0.6666667, 1.0)
CODEBOOKS = {"nf4": _NF4, "fp4": tuple(sorted({sign * value for value in _FP4 for sign in (-1.0, 1.0)}))}
"""Values relative to a block's largest magnitude: NF4 of QLoRA (Dettmers et al. 2023, arXiv 2305.14314), FP4."""


def quantised(weight: Tensor, form: Format) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights as they come back, the bucket of each and its step, all shaped like `weight` [outputs, inputs].

    int8: w -> s round(w / s), s = max|w| / 127 of each output row. int4: the same with max|w| / 7 of each group of 64
    inputs. nf4, fp4: s times the codebook value nearest to w / s, s = max|w| of each block of 64 weights, row after
    row. A last group may be shorter. step: the distance between neighbours (the mean one of a codebook).
    Computed in float32, returned in the weight's dtype; buckets are int64.
    """
    import torch

    rows = weight.reshape(1, -1) if form in CODEBOOKS else weight
    group = {"int8": weight.shape[1], "int4": INT4_GROUP}.get(form, BLOCK)
    padded = torch.nn.functional.pad(rows.float(), (0, -rows.shape[1] % group)).view(len(rows), -1, group)
    largest = padded.abs().amax(-1, keepdim=True)
    if form in CODEBOOKS:
        codebook = padded.new_tensor(CODEBOOKS[form])
        bucket = torch.bucketize(padded / _nonzero(largest), (codebook[1:] + codebook[:-1]) / 2)
        values, step = largest * codebook[bucket], largest * codebook.diff().mean()
    else:
        step = largest / (127 if form == "int8" else 7)
        bucket = (padded / _nonzero(step)).round().long()
        values = bucket * step

    def back(blocks: Tensor) -> Tensor:
        return blocks.reshape(len(rows), -1)[:, : rows.shape[1]].reshape(weight.shape)

    return back(values).to(weight.dtype), back(bucket), back(step.expand_as(padded))


def _nonzero(scale: Tensor) -> Tensor:
    """Return the scales with 1 for those of blocks of zeros, for which any will do."""
    return scale.masked_fill(~(scale > 0), 1.0)
