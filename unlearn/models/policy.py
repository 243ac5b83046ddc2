"""The one way in which training code runs a model: ids in, log-probabilities at labelled positions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = -100
Positions = Literal["labels", "attended", "all"]


@dataclass(frozen=True)
class Segment:
    """The rows `start:stop` of a micro-batch that play one part (forget, retain, alternate).

    total_rows and total_tokens count that part over the whole optimizer step, all micro-batches and processes: dividing
    by them makes any split of a step give the same gradient. reference_nll is the reference model's summed nll [rows]
    (nats), from the cached table; None where the method did not ask for it.
    """

    start: int
    stop: int
    total_rows: int
    total_tokens: int
    reference_nll: Tensor | None = None

    @property
    def rows(self) -> slice:
        """Where the segment's rows are in the micro-batch."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Batch:
    """A micro-batch: right-padded ids [B, T], attention mask [B, T], labels [B, T] (-100: none), and its segments."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    segments: Mapping[str, Segment] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        segments = {}
        for name, segment in self.segments.items():
            known = segment.reference_nll
            segments[name] = segment if known is None else replace(segment, reference_nll=move(known))
        return Batch(move(self.input_ids), move(self.attention_mask), move(self.labels), segments)

    def part(self, *names: str) -> Batch:
        """The rows of these segments alone, with the same width and totals; the batch itself where that is all."""
        if set(names) == set(self.segments):
            return self
        rows = [self.segments[name].rows for name in names]
        segments, start = {}, 0
        for name, taken in zip(names, rows, strict=True):
            stop = start + taken.stop - taken.start
            segments[name] = replace(self.segments[name], start=start, stop=stop)
            start = stop

        def cut(tensor: Tensor) -> Tensor:
            return torch.cat([tensor[r] for r in rows])

        return Batch(cut(self.input_ids), cut(self.attention_mask), cut(self.labels), segments)


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
        with projection_at(self.model, index):
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


def precise(values: Tensor) -> Tensor:
    """`values` in at least float32, which a log-softmax needs however the model computes."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@contextmanager
def projection_at(model: nn.Module, index: Tensor) -> Iterator[None]:
    """While active, a causal LM's `.logits` are [1, n, V]: those of the flat positions `index` [n] of its input [B, T].

    The hidden states are picked out just before the vocabulary projection, so soft caps, scales and biases after it are
    the model's own code, whatever the architecture.
    """

    def pick(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = inputs
        return (hidden.flatten(0, -2).index_select(0, index).unsqueeze(0), *rest)

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
