"""Greedy coordinate search of one string for several exchanges: the engine of GCG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unlearn.attacks.optimized.tokens import AnswerLoss, Frame, Ids, Slot, insert, swaps, top_tokens
from unlearn.models.subject import Subject
from unlearn.score.generate import pad_id
from unlearn.score.likelihood import likelihoods

PROBED, REDUCED = 16, 8  # one in 16 candidates is the probe set; at full disagreement one in 8 is looked at again


class CoordinateSearch:
    """A search that goes on step by step; `best` is (loss, string) of all that it saw for the frames in use.

    active: how many of the frames are in use. buffer: how many strings are kept to go on from; 0: the step's best
    alone, though it be worse. draft: scores all candidates, so that only some are put to the model (see GCG).
    """

    def __init__(
        self,
        slot: Slot,
        frames: Sequence[Frame],
        start: Ids,
        goal: AnswerLoss,
        allowed: Tensor,
        generator: torch.Generator,
        active: int,
        buffer: int = 0,
        draft: Subject | None = None,
    ) -> None:
        self.slot, self.frames, self.start, self.goal = slot, list(frames), start, goal
        self.allowed, self.generator, self.active, self.buffer, self.draft = allowed, generator, active, buffer, draft
        self.pool = [(self.loss(start), start)]  # best first
        self.best = self.pool[0]

    def loss(self, ids: Ids) -> float:
        """Of a string, on the frames in use."""
        return float(self.goal.losses([ids], self.active)[0])

    def step(self, n_replace: int, width: int, topk: int) -> None:
        """Draw candidates from the kept string of least loss, and keep the best of them."""
        ids = self.pool[0][1]
        top = top_tokens(self.goal.gradient(ids, self.active), self.allowed, topk)
        candidates = self.slot.survivors(self.frames, swaps(ids, top, n_replace, width, self.generator))
        if not candidates:
            return
        found = min(zip(self._losses(candidates).tolist(), candidates, strict=True))
        self.pool = sorted({*self.pool, found})[: self.buffer] if self.buffer else [found]
        self.best = min(self.best, found)

    def solved(self) -> bool:
        """Whether the best string makes every answer token of the frames in use the first choice."""
        return self.goal.solved(self.best[1], self.active)

    def widen(self) -> None:
        """Take the next frame in. Losses then mean something else: all that is kept is judged again."""
        self.active += 1
        kept = list(dict.fromkeys((self.best[1], *(ids for _, ids in self.pool), self.start)))
        self.pool = sorted(zip(self.goal.losses(kept, self.active).tolist(), kept, strict=True))
        self.best = self.pool[0]
        self.pool = self.pool[: max(1, self.buffer)]

    def _losses(self, candidates: Sequence[Ids]) -> Tensor:
        """[k]; with a draft model inf for those that were not put to the model itself (probe sampling)."""
        if self.draft is None:
            return self.goal.losses(candidates, self.active)
        from scipy.stats import spearmanr

        cheap = self._by_text(self.draft, candidates)
        losses = torch.full((len(candidates),), torch.inf)

        def look(chosen: Tensor) -> None:
            losses[chosen] = self.goal.losses([candidates[i] for i in chosen.tolist()], self.active)

        look(probes := torch.randperm(len(candidates), generator=self.generator)[: -(-len(candidates) // PROBED)])
        rank = spearmanr(cheap[probes], losses[probes]).statistic if len(probes) > 2 else math.nan
        agreement = 0.0 if math.isnan(rank) else (1 + rank) / 2
        look(cheap.argsort()[: max(1, round((1 - agreement) * len(candidates) / REDUCED))])
        return losses

    def _by_text(self, draft: Subject, candidates: Sequence[Ids]) -> Tensor:
        """[k] the draft model's mean loss of the answers, each string as its text, in the draft's own tokens."""
        frames = self.frames[: self.active]
        texts = [self.slot.text(ids) for ids in candidates]
        pairs = [(insert(f.pair[0], text, self.slot.where), f.pair[1]) for text in texts for f in frames]
        rows = draft.prompt.encode_all(draft.processor, pairs)
        stats = likelihoods(draft.module, [[row] for row in rows], pad_id(draft.processor), draft.token_budget)
        losses = torch.tensor([-float(found[0].logp.mean()) for found in stats])
        return losses.view(len(candidates), len(frames)).mean(1)
