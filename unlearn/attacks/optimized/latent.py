"""Latent attack: projected gradient descent on the residual stream, within a small share of its norm."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from annotated_types import Ge, Gt, Le, MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.optimized.fitting import (
    Schedule,
    Targets,
    check_forced,
    clip_rows,
    evaluate_under,
    fit,
    force_each,
)
from unlearn.attacks.setting.putting import encode_questions
from unlearn.runtime.errors import UserError
from unlearn.runtime.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import Generator, Tensor

    from unlearn.data.task import Question, Task
    from unlearn.models.base import RunSetting
    from unlearn.models.layout import Site
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Latent:
    """Add to the residual stream what makes the model give the attacker's answers, then ask it the others.

    As latent adversarial training does (Sheshadri et al. 2024, arXiv 2407.15549).
    """

    kind: Literal["vector", "map", "per_item"] = "vector"
    """Vector; map: of low rank; per_item: each held-out item alone (a diagnostic). A vector or a map is the same at all
    positions. The last has a vector for each position of the prompt, fitted to the item's own answer, less what the
    same does toward a wrong answer."""
    layers: Annotated[tuple[Annotated[float, Ge(0), Le(1)], ...], MinLen(1)] = (0.0, 0.25, 0.5, 0.75)
    """Where, as fractions of depth, all at once; 0: the embeddings' output."""
    epsilons: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (0.03, 0.1, 0.3)
    """Ladder of the largest L2 norm at a position, as shares of the stream's median norm. The attacker takes what is
    best on its own items."""
    steps: Annotated[int, Gt(0)] = 32
    """Steps of descent."""
    lr: Annotated[float, Gt(0)] = 0.1
    """Length of a step, as a share of epsilon."""
    batch: Annotated[int, Gt(0)] = 8
    """Items drawn for a step."""
    rank: Annotated[int, Gt(0)] = 16
    """Rank of the map."""
    toward: Annotated[float, Gt(0)] = 1.0
    """Weight of the answers' nll."""
    away: Annotated[float, Ge(0)] = 0.0
    """Weight of -log(1 - p) of refusals' tokens."""

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "activations"
    reference: ClassVar[str] = "arXiv 2407.15549"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "refusal"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """UserError where the task lacks refusals to lead away from, or wrong answers to be forced to."""
        if self.away and "refusal" not in task.sets:
            raise UserError(f"'away' leads away from refusals, but dataset '{task.name}' has none: set it to 0")
        check_forced(task, self.kind == "per_item")

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome for each seed and epsilon. UserError where the model's layout is not understood."""
        sites = stream_sites(subject, self.layers)
        prompts = encode_questions(subject, [item.probe for item in setting.attacker_items])
        medians = median_norms(subject, sites, prompts)
        outcomes: list[Outcome] = []
        with progress("perturbing activations", total=len(setting.seeds) * len(self.epsilons)) as advance:
            for seed in setting.seeds:
                for epsilon in self.epsilons:
                    name = f"epsilon {epsilon:g}"
                    if self.kind == "per_item":

                        def fitted(probe: Question, epsilon: float = epsilon, seed: int = seed) -> Stream:
                            return self._fitted(subject, setting, [probe], sites, medians, epsilon, seed)

                        outcomes.append(force_each(setting, name, seed, fitted, epsilon))
                    else:
                        probes = [item.probe for item in setting.attacker_items]
                        stream = self._fitted(subject, setting, probes, sites, medians, epsilon, seed)
                        outcomes.append(evaluate_under(stream, setting, name, seed, epsilon))
                    advance(1)
        n = len(setting.held_out_items if self.kind == "per_item" else setting.attacker_items)
        return AttackResult(outcomes, f"{n} forget items", f"{self.steps} steps at {len(sites)} layer(s)")

    def _fitted(
        self,
        subject: Subject,
        setting: AttackSetting,
        probes: Sequence[Question],
        sites: Sequence[Site],
        medians: Sequence[float],
        epsilon: float,
        seed: int,
    ) -> Stream:
        """Return shifts of at most epsilon times the median norms, fitted to the probes' answers."""
        import torch

        width, device = subject.module.config.get_text_config().hidden_size, subject.module.device
        length = len(encode_questions(subject, probes[:1])[0])
        generator = torch.Generator().manual_seed(seed)

        def shift(median: float) -> Shift:
            norm = epsilon * median
            if self.kind == "vector":
                return Vector(width, norm, device)
            if self.kind == "map":
                return LowRank(self.rank, width, norm, median, device, generator)
            return Positions(length, width, norm, device)

        stream = Stream(subject, [(site, shift(median)) for site, median in zip(sites, medians, strict=True)])
        refusals = setting.task.answers("refusal") if self.away else ()
        targets = Targets(
            [(probe, probe.answer) for probe in probes],
            [(probe, refusal) for probe, refusal in zip(probes, cycle(refusals), strict=False)],
            self.toward,
            self.away,
        )
        fit(stream, targets, Schedule(self.steps, self.lr / width**0.5, self.batch), seed)
        return stream


class Shift(Protocol):
    """What is added to the residual stream h [B, T, d] of one layer; learned in units of the largest norm allowed."""

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return what is learned."""

    def __call__(self, h: Tensor) -> Tensor:
        """Return h with what is added to it."""

    def project(self) -> None:
        """Shorten what is learned to the norm allowed, where that is how the norm is kept."""


class Vector:
    """The same vector norm * v at every position, v [d], |v| <= 1 (L2). It starts at 0."""

    def __init__(self, width: int, norm: float, device: torch.device) -> None:
        import torch

        self.norm, self.vector = norm, torch.zeros(width, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return v."""
        return [self.vector]

    def __call__(self, h: Tensor) -> Tensor:
        """Return h + norm * v."""
        return h + (self.norm * self.vector).to(h.dtype)

    def project(self) -> None:
        """Shorten v."""
        self.vector.data = clip_rows(self.vector.data, 1.0)


class Positions:
    """norm * v_t at the prompt's positions t, v [T, d], |v_t| <= 1. It starts at 0.

    For a single prompt that comes whole, without padding before it; what is generated after it is left alone.
    """

    def __init__(self, length: int, width: int, norm: float, device: torch.device) -> None:
        import torch

        self.norm, self.vectors = norm, torch.zeros(length, width, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return v."""
        return [self.vectors]

    def __call__(self, h: Tensor) -> Tensor:
        """Return h + norm * v, at the prompt's positions."""
        import torch

        if h.shape[1] < (n := len(self.vectors)):
            return h
        return torch.cat([h[:, :n] + (self.norm * self.vectors).to(h.dtype), h[:, n:]], dim=1)

    def project(self) -> None:
        """Shorten each."""
        self.vectors.data = clip_rows(self.vectors.data, 1.0)


class LowRank:
    """norm * B A h sqrt(d) / median at every position, shortened to `norm`.

    median: the stream's norm, so that A h has entries of order 1. A [r, d] starts random with rows of norm about 1,
    B [d, r] at 0.
    """

    def __init__(
        self, rank: int, width: int, norm: float, median: float, device: torch.device, generator: Generator
    ) -> None:
        import torch

        self.norm, self.scale = norm, median / width**0.5
        drawn = torch.randn(rank, width, generator=generator) / width**0.5
        self.a = drawn.to(device).requires_grad_()
        self.b = torch.zeros(width, rank, device=device, requires_grad=True)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return A and B."""
        return [self.a, self.b]

    def __call__(self, h: Tensor) -> Tensor:
        """Return h + the shortened image of h."""
        image = clip_rows((h.float() / self.scale) @ self.a.T @ self.b.T, 1.0)
        return h + (self.norm * image).to(h.dtype)

    def project(self) -> None:
        """Leave the map as it is: its image is shortened wherever it arises."""


class Stream:
    """Shifts at several layers of a model, together one Perturbation."""

    def __init__(self, subject: Subject, shifts: Sequence[tuple[Site, Shift]]) -> None:
        self.subject, self.shifts = subject, list(shifts)

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Return all layers'."""
        return [parameter for _, shift in self.shifts for parameter in shift.parameters]

    def project(self) -> None:
        """Every layer."""
        for _, shift in self.shifts:
            shift.project()

    @contextmanager
    def active(self) -> Iterator[None]:
        """While active, the model runs with all shifts."""
        from unlearn.models.sites import edited

        with edited(*self.shifts):
            yield


def stream_sites(subject: Subject, depths: Sequence[float]) -> list[Site]:
    """Return the residual stream at fractions of depth: 0, the embeddings' output, 1/2, that of the middle block."""
    from unlearn.models.layout import layout

    parts = layout(subject.module)
    layers = dict.fromkeys(round(depth * len(parts.blocks)) for depth in depths)
    return [parts.embed if layer == 0 else parts.blocks[layer - 1].sites["resid"] for layer in layers]


def median_norms(subject: Subject, sites: Sequence[Site], prompts: Sequence[Sequence[int]]) -> list[float]:
    """Return the median L2 norm of each site's vectors over all positions of the prompts."""
    import torch

    from unlearn.models.prompts import collate
    from unlearn.models.sites import edited
    from unlearn.score.batching import map_batches

    def norms(rows: list[Sequence[int]]) -> list[Tensor]:
        batch, seen = collate(rows, subject.module.device), []

        def read(h: Tensor) -> None:
            seen.append(h.float().norm(dim=-1))

        gates = subject.gated(batch.ids, batch.mask, batch.position + 1)
        with torch.no_grad(), gates, edited(*((site, read) for site in sites)):
            subject.module(input_ids=batch.ids, use_cache=False)
        return [torch.stack([s[i, : len(row)] for s in seen]).cpu() for i, row in enumerate(rows)]

    found = map_batches(norms, prompts, len, subject.token_budget)
    return torch.cat(found, dim=1).median(dim=1).values.tolist()
