"""From the rows of an optimizer step to this process's padded micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unlearn.data.prompt import Encoded

IGNORE = -100
PAIRED = ("forget", "alternate", "injected")  # answers to the same questions, row for row
_PADDING = (
    1024  # tokens that a longer row may add to the shorter ones before it; beyond, a forward of its own is cheaper
)
SEGMENTS = (*PAIRED, "retain", "fluency")  # the order of segments inside a micro-batch


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


def micro_batches(
    rows: Sequence[Encoded],
    step: Mapping[str, Sequence[int]],
    micro_tokens: int,
    reference_nll: Mapping[int, float],
    rank: int = 0,
    world: int = 1,
) -> list[Batch]:
    """This rank's share of a step, packed by length into right-padded micro-batches of at most `micro_tokens` tokens.

    A row longer than that gets a micro-batch of its own, and rows that are much longer than the others (passages beside
    short facts) go apart from them. Paired rows stay together. Every micro-batch has all of the step's segments, some
    of them maybe empty, each with the whole step's totals. A rank left without rows gets one empty micro-batch: every
    process must run backward.
    """
    names = [name for name in SEGMENTS if name in step]
    totals = {
        name: (len(step[name]), sum(len(rows[r].ids) - max(1, rows[r].n_prompt) for r in step[name])) for name in names
    }
    units = _units(step)[rank::world]
    units.sort(key=lambda unit: _length(rows, unit))
    packs: list[list[dict[str, int]]] = [[]]
    width = 0
    for unit in units:  # ascending in length, so the newest unit sets the width
        before, length = sum(map(len, packs[-1])), _length(rows, unit)
        if before and ((before + len(unit)) * length > micro_tokens or before * (length - width) > _PADDING):
            packs.append([])
        packs[-1].append(unit)
        width = length
    return [_collate(rows, pack, names, totals, reference_nll) for pack in packs]


def _units(step: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """What must not be torn apart: the answers to one forget question; any other row alone."""
    paired = [name for name in PAIRED if name in step]
    together = [dict(zip(paired, rows, strict=True)) for rows in zip(*(step[name] for name in paired), strict=True)]
    return together + [{name: row} for name in SEGMENTS if name not in PAIRED for row in step.get(name, ())]


def _length(rows: Sequence[Encoded], unit: Mapping[str, int]) -> int:
    return max(len(rows[row].ids) for row in unit.values())


def _collate(
    rows: Sequence[Encoded],
    pack: Sequence[Mapping[str, int]],
    names: Sequence[str],
    totals: Mapping[str, tuple[int, int]],
    reference_nll: Mapping[int, float],
) -> Batch:
    members = {name: [unit[name] for unit in pack if name in unit] for name in names}
    order = [row for name in names for row in members[name]]
    segments, start = {}, 0
    for name in names:
        stop = start + len(members[name])
        known = [reference_nll[row] for row in members[name] if row in reference_nll]
        reference = torch.tensor(known) if len(known) == stop - start and reference_nll else None
        segments[name] = Segment(start, stop, *totals[name], reference)
        start = stop
    return Batch(*pad_rows([rows[row] for row in order]), segments)


def pad_rows(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded (input_ids, attention_mask, labels), each [B, T] int64. The mask is by length: EOS is attended."""
    width = max((len(row.ids) for row in rows), default=2)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        input_ids[i, : len(ids)] = ids
        attention_mask[i, : len(ids)] = 1
        labels[i, row.n_prompt : len(ids)] = ids[row.n_prompt :]
    return input_ids, attention_mask, labels
