"""Run a model in training, in one way: ids in, log-probabilities at labelled positions out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.interventions.base import gated, interventions
from unlearn.models.layout import decoder_stack, layout
from unlearn.models.projection import precise, projection_at
from unlearn.models.sites import Edit, Key, edited

Positions = Literal["labels", "attended", "all"]


@dataclass(frozen=True)
class TokenScores:
    """One segment's scores after the causal shift; column t belongs to the target labels[:, t + 1]."""

    nll: Tensor
    """[rows, T - 1] float32, nats, 0 where there is no target; all nan where hidden states alone were asked for."""
    mask: Tensor
    """[rows, T - 1] bool, True at targets."""
    segment: Segment
    """Whose scores they are."""
    logits: Tensor | None = None
    """[n, V] in the model's dtype at the positions asked for (row-major), or None."""
    positions: Tensor | None = None
    """[rows, T] bool, True at those n positions."""
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    """[rows, T, d] by layer: what the decoder layers that were asked for give."""

    @property
    def sums(self) -> Tensor:
        """Return S_b, the summed nll of each row: [rows]."""
        return self.nll.sum(dim=1)

    @property
    def counts(self) -> Tensor:
        """Return n_b, the number of targets of each row: [rows]."""
        return self.mask.sum(dim=1)

    @property
    def reference_sums(self) -> Tensor:
        """Return S_b of the reference model: [rows]. ValueError where the batch does not bring them."""
        if self.segment.reference_nll is None:
            raise ValueError("this batch has no reference log-probabilities")
        return self.segment.reference_nll

    def token_mean(self) -> Tensor:
        """Return this micro-batch's part of TOK = sum_b S_b / sum_b n_b, taken over the whole step."""
        return self.nll.sum() / self.segment.total_tokens

    def row_mean(self, values: Tensor) -> Tensor:
        """Return this micro-batch's part of the mean over the step's rows of `values` [rows]."""
        return values.sum() / self.segment.total_rows

    def position_mean(self, values: Tensor) -> Tensor:
        """Return this micro-batch's part of the mean over the step's rows of a row's mean of `values`, [positions]."""
        assert self.positions is not None
        share = self.positions / self.positions.sum(dim=1, keepdim=True, dtype=values.dtype)
        return (values * share[self.positions]).sum() / self.segment.total_rows


class Policy(nn.Module):
    """Score labelled tokens with a causal LM: the one place in which training runs it.

    The vocabulary projection, most of a small model's cost, is done only at the positions that are asked for. Rows are
    padded on the right, so under a causal mask no labelled position sees padding and the model needs no attention mask;
    it gets one only where the padding positions' own logits are asked for ("all").
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        batch: Batch,
        logits: Mapping[str, Positions] | None = None,
        hidden: Mapping[str, Collection[int]] | None = None,
    ) -> dict[str, TokenScores]:
        """Score every segment, from one pass over all rows.

        logits: for which segments also the logits, and where. "labels": positions that a target follows; "attended":
        where attention_mask is 1; "all": padding included. hidden: for which segments the output of which decoder
        layers (from 0). A segment of `hidden` that is not in `logits` has no token scores; where all are so, nothing is
        projected and no layer above the highest of them is run.
        A batch without rows gives empty scores that still depend on every weight that was used (with zero gradient).
        ValueError where a segment is asked for that the batch does not have.
        """
        logits, hidden = logits or {}, hidden or {}
        if unknown := {*logits, *hidden} - {*batch.segments}:
            raise ValueError(f"this batch has no segment '{min(unknown)}' (it has: {', '.join(batch.segments)})")
        unscored = {*hidden} - {*logits}
        targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE)  # [B, T]: what follows each position
        is_target = targets != IGNORE
        wanted = is_target.clone() if logits or unscored else is_target
        for name in unscored:
            wanted[batch.segments[name].rows] = False
        for name, where in logits.items():
            rows = batch.segments[name].rows
            if where != "labels":
                wanted[rows] |= batch.attention_mask[rows].bool() | (where == "all")
        index = wanted.flatten().nonzero().squeeze(1)  # [n]
        layers = {layer for chosen in hidden.values() for layer in chosen}
        projecting = unscored != {*batch.segments} or not unscored
        with _gates(self.model, batch), _captured(self.model, layers) as states:
            flat = self._run(batch, index if projecting else None, "all" in logits.values(), layers)  # [n, V]
        nll = torch.full(wanted.shape, torch.nan, device=wanted.device)
        if projecting:
            each = F.cross_entropy(precise(flat), targets.flatten()[index], ignore_index=IGNORE, reduction="none")
            nll = each.new_zeros(wanted.numel()).index_copy(0, index, each).view(wanted.shape)
        scores = {}
        for name, segment in batch.segments.items():
            rows = segment.rows
            own = nll[rows, :-1] if name not in unscored else nll.new_full(is_target[rows, :-1].shape, torch.nan)
            states_of = {layer: states[layer][rows] for layer in hidden.get(name, ())}
            scores[name] = TokenScores(own, is_target[rows, :-1], segment, hidden=states_of)
            if name in logits:
                ends = index.new_tensor([segment.start, segment.stop]) * wanted.shape[1]
                first, last = torch.searchsorted(index, ends).tolist()  # rows are contiguous: a view, not a copy
                scores[name] = replace(scores[name], logits=flat[first:last], positions=wanted[rows])
        return scores

    def edited(self, edits: Mapping[Key, Edit]) -> AbstractContextManager[None]:
        """Return a context in which each function sees its site's tensor and may give another in its place.

        A site is a layer and one of the names that `Block` lists.
        """
        parts = layout(self.model)
        return edited(*((parts.site(*key), edit) for key, edit in edits.items()))

    def _run(self, batch: Batch, index: Tensor | None, padding: bool, layers: Collection[int]) -> Tensor:
        """Run the model over the batch and return its logits at the flat positions `index`, [n, V].

        index: None runs the decoder alone, up to the highest of `layers`, and gives nothing. padding: whether logits
        are read at padding.
        """
        ids = _rows(batch)
        mask = batch.attention_mask if padding and len(batch.input_ids) else None
        if index is not None:
            with projection_at(self.model, index):
                logits: Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
                return logits
        with _cut(self.model, max(layers) + 1) as decoder:
            decoder(input_ids=ids, attention_mask=mask, use_cache=False)
        return ids.new_empty(0)


def _rows(batch: Batch) -> Tensor:
    """Return the ids to run: a row of one token in the place of none, which models cannot be relied on to take."""
    return batch.input_ids if len(batch.input_ids) else batch.input_ids.new_zeros(1, 1)


@contextmanager
def _gates(model: nn.Module, batch: Batch) -> Iterator[None]:
    """Let the model's interventions act on the rows by what they may see of them (see Batch.seen)."""
    if interventions(model) is None:
        yield
        return
    ids = _rows(batch)
    if len(batch.input_ids):
        mask, before = batch.attention_mask, (batch.labels != IGNORE).long().argmax(dim=1)
        lengths = before if batch.seen is None else batch.seen
    else:
        mask, lengths = torch.ones_like(ids), ids.new_zeros(len(ids))
    with gated(model, ids, mask, lengths):
        yield


@contextmanager
def _captured(model: nn.Module, layers: Collection[int]) -> Iterator[dict[int, Tensor]]:
    """Put what these decoder layers give [B, T, d] into the mapping, in each forward as long as the context lasts."""
    states: dict[int, Tensor] = {}
    if not layers:
        yield states
        return
    decoder, name = decoder_stack(model)
    blocks = getattr(decoder, name)
    if not 0 <= min(layers) <= max(layers) < len(blocks):
        raise ValueError(f"no such layers: {sorted(layers)} of {len(blocks)}")

    def keep(layer: int) -> Any:
        def hook(_: nn.Module, inputs: Any, value: Any) -> None:
            states.setdefault(layer, value[0] if isinstance(value, tuple) else value)

        return hook

    handles = [blocks[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _cut(model: nn.Module, layers: int) -> Iterator[nn.Module]:
    """Give the decoder with only its first layers, as long as the context lasts."""
    decoder, name = decoder_stack(model)
    whole = getattr(decoder, name)
    setattr(decoder, name, whole[:layers])
    try:
        yield decoder
    finally:
        setattr(decoder, name, whole)
