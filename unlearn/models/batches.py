"""Turn the rows of an optimizer step into this process's padded micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from unlearn.data.prompt import Encoded

IGNORE = -100
_PADDING = (
    1024  # tokens that a longer row may add to the shorter ones before it; beyond, a forward of its own is cheaper
)


@dataclass(frozen=True)
class Segment:
    """The rows of a micro-batch that are of one set (forget, retain, refusal)."""

    start: int
    """Its first row."""
    stop: int
    """The row after its last."""
    total_rows: int
    """Rows of the set in the whole optimizer step, all micro-batches and processes: dividing by these counts makes any
    split of a step give the same gradient."""
    total_tokens: int
    """The same of its targets."""
    reference_nll: Tensor | None = None
    """The reference model's summed nll [rows] (nats), from a table; None where nobody asked for it."""

    @property
    def rows(self) -> slice:
        """Where the segment's rows are in the micro-batch."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Batch:
    """A micro-batch of text, padded on the right."""

    input_ids: Tensor
    """[B, T] token ids."""
    attention_mask: Tensor
    """[B, T], 1 at tokens and 0 at padding."""
    labels: Tensor
    """[B, T] token ids where a token is to be predicted, IGNORE elsewhere."""
    segments: Mapping[str, Segment] = field(default_factory=dict)
    """Which rows are of which set."""
    share: float = 1.0
    """Share of the optimizer step's rows that are in it."""
    seen: Tensor | None = None
    """[B] how many first tokens of each row the gates of interventions see; None: those before its first label."""

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        segments = {}
        for name, segment in self.segments.items():
            known = segment.reference_nll
            segments[name] = segment if known is None else replace(segment, reference_nll=move(known))
        return replace(
            self,
            input_ids=move(self.input_ids),
            attention_mask=move(self.attention_mask),
            labels=move(self.labels),
            segments=segments,
            seen=None if self.seen is None else move(self.seen),
        )

    def part(self, *names: str) -> Batch:
        """Return the rows of these segments alone, with the same width and totals; itself where that is all."""
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

        seen = None if self.seen is None else cut(self.seen)
        return Batch(cut(self.input_ids), cut(self.attention_mask), cut(self.labels), segments, self.share, seen)

    def empty(self) -> Batch:
        """Return the batch without its rows, with the same totals."""
        segments = {
            name: replace(s, start=0, stop=0, reference_nll=None if s.reference_nll is None else s.reference_nll[:0])
            for name, s in self.segments.items()
        }
        seen = None if self.seen is None else self.seen[:0]
        return Batch(self.input_ids[:0], self.attention_mask[:0], self.labels[:0], segments, 0.0, seen)


def micro_batches(
    rows: Sequence[Encoded],
    step: Mapping[str, Sequence[int]],
    tokens: int,
    beside: Mapping[str, str] | None = None,
    reference_nll: Mapping[int, float] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> list[Batch]:
    """Pack a process's share of a step by length into right-padded micro-batches of at most `tokens` tokens.

    A row longer than that gets a micro-batch of its own, and rows that are much longer than the others (passages beside
    short facts) go apart from them. Every micro-batch has all of the step's segments, in the step's order, some of them
    maybe empty, each with the whole step's totals.
    rows: of which `step` names some by number, for each segment. beside: {"refusal": "forget"}: the k-th rows of the
    two stay together. reference_nll: of rows by number. shard: (rank, number of processes). All ranks get equally many,
    at least one: what a rank lacks are empty ones.
    """
    totals = {name: (len(step[name]), sum(len(rows[r].labelled) for r in step[name])) for name in step}
    units = list(_units(step, beside or {}))
    rank, world = shard
    packs = [_packs(rows, units[other::world], tokens) for other in range(world)]
    most = max(map(len, packs))
    batches = [_collate(rows, pack, totals, reference_nll or {}) for pack in packs[rank]]
    return batches + [batches[0].empty()] * (most - len(batches))


def _units(step: Mapping[str, Sequence[int]], beside: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Yield what must not be torn apart: the rows that belong to one row, in all segments; those of one set alone."""
    groups: dict[str, list[str]] = {}
    for name in step:
        groups.setdefault(beside.get(name, name), []).append(name)
    for names in groups.values():
        for together in zip(*(step[name] for name in names), strict=True):
            yield dict(zip(names, together, strict=True))


def _packs(rows: Sequence[Encoded], units: Sequence[dict[str, int]], tokens: int) -> list[list[dict[str, int]]]:
    """Return the units in runs of like length, each a micro-batch; one without units where there are none."""
    packs: list[list[dict[str, int]]] = [[]]
    width = 0
    for unit in sorted(units, key=lambda unit: _length(rows, unit)):  # so the newest unit sets the width
        before, length = sum(map(len, packs[-1])), _length(rows, unit)
        if before and ((before + len(unit)) * length > tokens or before * (length - width) > _PADDING):
            packs.append([])
        packs[-1].append(unit)
        width = length
    return packs


def _length(rows: Sequence[Encoded], unit: Mapping[str, int]) -> int:
    return max(len(rows[row].ids) for row in unit.values())


def _collate(
    rows: Sequence[Encoded],
    pack: Sequence[Mapping[str, int]],
    totals: Mapping[str, tuple[int, int]],
    reference_nll: Mapping[int, float],
) -> Batch:
    members = {name: [unit[name] for unit in pack if name in unit] for name in totals}
    order = [row for numbers in members.values() for row in numbers]
    segments, start = {}, 0
    for name, numbers in members.items():
        stop = start + len(numbers)
        known = [reference_nll[row] for row in numbers if row in reference_nll]
        reference = torch.tensor(known) if len(known) == stop - start and reference_nll else None
        segments[name] = Segment(start, stop, *totals[name], reference)
        start = stop
    share = len(order) / max(1, sum(count for count, _ in totals.values()))
    seen = torch.tensor([rows[row].seen for row in order], dtype=torch.long)
    return Batch(*pad_rows([rows[row] for row in order]), segments, share, seen)


def pad_rows(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
    """Return right-padded (input_ids, attention_mask, labels), each [B, T] int64.

    The mask is by length: EOS is attended.
    """
    width = max((len(row.ids) for row in rows), default=2)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        input_ids[i, : len(ids)] = ids
        attention_mask[i, : len(ids)] = 1
        where = list(row.labelled) if row.spans is not None else slice(row.n_prompt, len(ids))
        labels[i, where] = ids[where]
    return input_ids, attention_mask, labels
