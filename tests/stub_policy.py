"""Optimizer steps with given numbers, and a stand-in for the policy that looks those numbers up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.policy import Policy, Positions, TokenScores

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def step(targets: Mapping[str, Sequence[int]], reference: Mapping[str, Sequence[float]] | None = None) -> Batch:
    """A whole step as one batch: `targets` gives the number of targets of each row, after a prompt of one token.

    Rows are numbered over all segments, and their number stands in input_ids[:, 0]. reference: their reference nll.
    """
    lengths = [n for counts in targets.values() for n in counts]
    width = max(lengths, default=0) + 2  # at least one column of padding
    position, ends = torch.arange(width), torch.tensor(lengths)[:, None]
    labels = torch.where((position > 0) & (position <= ends), 7, IGNORE)
    ids = torch.arange(len(lengths))[:, None].expand(-1, width)
    segments, start = {}, 0
    for name, counts in targets.items():
        stop = start + len(counts)
        known = torch.tensor(reference[name], dtype=torch.float64) if reference and name in reference else None
        segments[name] = Segment(start, stop, len(counts), sum(counts), known)
        start = stop
    return Batch(ids, (position <= ends).long(), labels, segments)


def take(batch: Batch, rows: Mapping[str, Sequence[int]]) -> Batch:
    """The micro-batch of these rows (numbered within their segment) with the totals of the whole step."""
    picked, segments, start = [], {}, 0
    for name, segment in batch.segments.items():
        mine = list(rows.get(name, ()))
        known = None if segment.reference_nll is None else segment.reference_nll[mine]
        segments[name] = replace(segment, start=start, stop=start + len(mine), reference_nll=known)
        picked += [segment.start + row for row in mine]
        start += len(mine)
    return Batch(batch.input_ids[picked], batch.attention_mask[picked], batch.labels[picked], segments)


class StubPolicy(Policy):
    """Scores row r of a step with nll[r] [T - 1] and logits[r] [T, V], whatever micro-batch the row comes in."""

    def __init__(self, nll: Tensor, logits: Tensor | None = None) -> None:
        super().__init__(nn.Identity())
        self.nll, self.logits = nll, logits

    def forward(
        self,
        batch: Batch,
        logits: Mapping[str, Positions] | None = None,
        hidden: Mapping[str, Collection[int]] | None = None,
    ) -> dict[str, TokenScores]:
        assert not hidden
        scores = {}
        for name, segment in batch.segments.items():
            number = batch.input_ids[segment.rows, 0]
            mask = batch.labels[segment.rows, 1:] != IGNORE
            scores[name] = TokenScores(self.nll[number] * mask, mask, segment)
            if logits and name in logits:
                assert self.logits is not None
                attended = batch.attention_mask[segment.rows].bool()
                everywhere = {"labels": torch.nn.functional.pad(mask, (0, 1)), "attended": attended}
                positions = everywhere.get(logits[name], torch.ones_like(attended))
                scores[name] = replace(scores[name], logits=self.logits[number][positions], positions=positions)
        return scores
