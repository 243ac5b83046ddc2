"""The one way in which training code runs a model: ids in, log-probabilities at labelled positions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.interventions.base import gated, interventions
from unlearn.models.projection import precise, projection_at

Positions = Literal["labels", "attended", "all"]


@dataclass(frozen=True)
class TokenScores:
    """One segment's scores after the causal shift; column t belongs to the target labels[:, t + 1].

    nll: [rows, T - 1] float32, nats, 0 where there is no target. mask: [rows, T - 1] bool, True at targets.
    logits: [n, V] in the model's dtype at the positions asked for (row-major), or None; positions: [rows, T] bool mask
    of those n positions.
    """

    nll: Tensor
    mask: Tensor
    segment: Segment
    logits: Tensor | None = None
    positions: Tensor | None = None

    @property
    def sums(self) -> Tensor:
        """S_b, the summed nll of each row: [rows]."""
        return self.nll.sum(dim=1)

    @property
    def counts(self) -> Tensor:
        """n_b, the number of targets of each row: [rows]."""
        return self.mask.sum(dim=1)

    @property
    def reference_sums(self) -> Tensor:
        """S_b of the reference model: [rows]. ValueError where the batch does not bring them."""
        if self.segment.reference_nll is None:
            raise ValueError("this batch has no reference log-probabilities")
        return self.segment.reference_nll

    def token_mean(self) -> Tensor:
        """This micro-batch's part of TOK = sum_b S_b / sum_b n_b, taken over the whole step."""
        return self.nll.sum() / self.segment.total_tokens

    def row_mean(self, values: Tensor) -> Tensor:
        """This micro-batch's part of the mean over the step's rows of `values` [rows]."""
        return values.sum() / self.segment.total_rows

    def position_mean(self, values: Tensor) -> Tensor:
        """This micro-batch's part of the mean over the step's rows of a row's mean of `values` [n] (positions)."""
        assert self.positions is not None
        share = self.positions / self.positions.sum(dim=1, keepdim=True, dtype=values.dtype)
        return (values * share[self.positions]).sum() / self.segment.total_rows


class Policy(nn.Module):
    """A causal LM seen as a scorer of labelled tokens.

    The vocabulary projection, most of a small model's cost, is done only at the positions that are asked for. Rows are
    padded on the right, so under a causal mask no labelled position sees padding and the model needs no attention mask;
    it gets one only where the padding positions' own logits are asked for ("all").
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, logits: Mapping[str, Positions] | None = None) -> dict[str, TokenScores]:
        """Scores of every segment, from one pass over all rows; for segments named in `logits` also the logits there.

        "labels": positions that a target follows; "attended": where attention_mask is 1; "all": padding included.
        A batch without rows gives empty scores that still depend on every weight (with zero gradient).
        """
        logits = logits or {}
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE)  # [B, T]: what follows each position
        is_target = targets != IGNORE
        wanted = is_target.clone() if logits else is_target
        for name, where in logits.items():
            rows = batch.segments[name].rows
            if where != "labels":
                wanted[rows] |= batch.attention_mask[rows].bool() | (where == "all")
        index = wanted.flatten().nonzero().squeeze(1)  # [n]
        ids, mask = batch.input_ids, batch.attention_mask if "all" in logits.values() else None
        if not len(ids):
            ids, mask = ids.new_zeros(1, 1), None  # models cannot be relied on to take no row at all
        with _gates(self.model, ids, batch), projection_at(self.model, index):
            flat = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]  # [n, V]
        flat_nll = F.cross_entropy(precise(flat), targets.flatten()[index], ignore_index=IGNORE, reduction="none")
        nll = flat_nll.new_zeros(wanted.numel()).index_copy(0, index, flat_nll).view(wanted.shape)
        scores = {}
        for name, segment in batch.segments.items():
            rows = segment.rows
            scores[name] = TokenScores(nll[rows, :-1], is_target[rows, :-1], segment)
            if name in logits:
                ends = index.new_tensor([segment.start, segment.stop]) * wanted.shape[1]
                first, last = torch.searchsorted(index, ends).tolist()  # rows are contiguous: a view, not a copy
                scores[name] = replace(scores[name], logits=flat[first:last], positions=wanted[rows])
        return scores


@contextmanager
def _gates(model: nn.Module, ids: Tensor, batch: Batch) -> Iterator[None]:
    """Let the model's interventions act on the rows by what comes before their labels."""
    if interventions(model) is None:
        yield
        return
    if len(ids) != len(batch.labels):  # the row in the place of none
        mask, lengths = torch.ones_like(ids), ids.new_zeros(len(ids))
    else:
        mask, lengths = batch.attention_mask, (batch.labels != IGNORE).long().argmax(dim=1)
    with gated(model, ids, mask, lengths):
        yield
