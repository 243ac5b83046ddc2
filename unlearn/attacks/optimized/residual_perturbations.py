"""Perturbations of the residual stream within a norm: a vector, a low-rank map, or a vector for each position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from unlearn.attacks.optimized.fitting import clip_rows
from unlearn.models.layout import Site, layout
from unlearn.models.prompts import collate
from unlearn.models.sites import edited
from unlearn.models.subject import Subject
from unlearn.score.batching import map_batches


class Shift(Protocol):
    """What is added to the residual stream h [B, T, d] of one layer; learned in units of the largest norm allowed."""

    @property
    def parameters(self) -> Sequence[Tensor]: ...

    def __call__(self, h: Tensor) -> Tensor: ...

    def project(self) -> None: ...


class Vector:
    """The same vector norm * v at every position, v [d], |v| <= 1 (L2). It starts at 0."""

    def __init__(self, width: int, norm: float, device: torch.device) -> None:
        self.norm, self.vector = norm, torch.zeros(width, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """v"""
        return [self.vector]

    def __call__(self, h: Tensor) -> Tensor:
        """h + norm * v"""
        return h + (self.norm * self.vector).to(h.dtype)

    def project(self) -> None:
        """Shorten v."""
        self.vector.data = clip_rows(self.vector.data, 1.0)


class Positions:
    """norm * v_t at the prompt's positions t, v [T, d], |v_t| <= 1. It starts at 0.

    For a single prompt that comes whole, without padding before it; what is generated after it is left alone.
    """

    def __init__(self, length: int, width: int, norm: float, device: torch.device) -> None:
        self.norm, self.vectors = norm, torch.zeros(length, width, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """v"""
        return [self.vectors]

    def __call__(self, h: Tensor) -> Tensor:
        """h + norm * v, at the prompt's positions."""
        if h.shape[1] < (n := len(self.vectors)):
            return h
        return torch.cat([h[:, :n] + (self.norm * self.vectors).to(h.dtype), h[:, n:]], dim=1)

    def project(self) -> None:
        """Shorten each."""
        self.vectors.data = clip_rows(self.vectors.data, 1.0)


class LowRank:
    """norm * B A h sqrt(d) / median at every position, shortened to `norm`; median: the stream's norm, so that A h has
    entries of order 1. A [r, d] starts random with rows of norm about 1, B [d, r] at 0."""

    def __init__(
        self, rank: int, width: int, norm: float, median: float, device: torch.device, generator: torch.Generator
    ) -> None:
        self.norm, self.scale = norm, median / width**0.5
        drawn = torch.randn(rank, width, generator=generator) / width**0.5
        self.a = drawn.to(device).requires_grad_()
        self.b = torch.zeros(width, rank, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """A, B"""
        return [self.a, self.b]

    def __call__(self, h: Tensor) -> Tensor:
        """h + the shortened image of h."""
        image = clip_rows((h.float() / self.scale) @ self.a.T @ self.b.T, 1.0)
        return h + (self.norm * image).to(h.dtype)

    def project(self) -> None:
        """The image is shortened wherever it arises."""


class Stream:
    """Shifts at several layers of a suspect, together one perturbation (see fitting.Perturbation)."""

    def __init__(self, subject: Subject, shifts: Sequence[tuple[Site, Shift]]) -> None:
        self.subject, self.shifts = subject, list(shifts)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """All layers'."""
        return [parameter for _, shift in self.shifts for parameter in shift.parameters]

    def project(self) -> None:
        """Every layer."""
        for _, shift in self.shifts:
            shift.project()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model runs with all shifts."""
        with edited(*self.shifts):
            yield


def stream_sites(subject: Subject, depths: Sequence[float]) -> list[Site]:
    """The residual stream at fractions of depth: 0 is what the embeddings give, 1/2 what the middle block gives."""
    parts = layout(subject.module)
    layers = dict.fromkeys(round(depth * len(parts.blocks)) for depth in depths)
    return [parts.embed if layer == 0 else parts.blocks[layer - 1].sites["resid"] for layer in layers]


def median_norms(subject: Subject, sites: Sequence[Site], prompts: Sequence[Sequence[int]]) -> list[float]:
    """The median L2 norm of each site's vectors over all positions of the prompts."""

    def norms(rows: list[Sequence[int]]) -> list[Tensor]:
        batch, seen = collate(rows, subject.module.device), []

        def look(h: Tensor) -> None:
            seen.append(h.float().norm(dim=-1))

        gates = subject.gated(batch.ids, batch.mask, batch.position + 1)
        with torch.no_grad(), gates, edited(*((site, look) for site in sites)):
            subject.module(input_ids=batch.ids, use_cache=False)
        return [torch.stack([s[i, : len(row)] for s in seen]).cpu() for i, row in enumerate(rows)]

    found = map_batches(norms, prompts, len, subject.token_budget)
    return torch.cat(found, dim=1).median(dim=1).values.tolist()
