"""Greedy coordinate search of one string for several exchanges, and the loss that it lowers: the engine of GCG."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearn.attacks.optimized.strings import Frame, Ids, Slot, one_hot_gradient, placed, swaps, top_tokens
from unlearn.attacks.setting.putting import encode_answers
from unlearn.models.interventions.base import gated_at
from unlearn.models.projection import precise, projection_at
from unlearn.score.batching import map_batches
from unlearn.score.generate import pad_id
from unlearn.score.likelihood import LOGITS, likelihoods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.models.subject import Subject

PROBED, REDUCED = 16, 8  # one in 16 candidates is the probe set; at full disagreement one in 8 is scored besides


class CoordinateSearch:
    """A search that goes on step by step; `best` is (loss, string) of all that it scored on the frames in use.

    goal: the loss and its frames, of which the first `active` are in use. buffer: how many strings are kept to go on
    from; 0: the step's best alone, though it be worse. draft: scores all candidates, so that the model scores only some
    (probe sampling, arXiv 2403.01251).
    """

    def __init__(
        self,
        slot: Slot,
        start: Ids,
        goal: AnswerLoss,
        generator: torch.Generator,
        active: int,
        buffer: int = 0,
        draft: Subject | None = None,
    ) -> None:
        self.slot, self.start, self.goal = slot, start, goal
        self.generator, self.active, self.buffer, self.draft = generator, active, buffer, draft
        self.pool = [(self.loss(start), start)]  # best first
        self.best = self.pool[0]

    def loss(self, ids: Ids) -> float:
        """Return the loss of a string on the frames in use."""
        return float(self.goal.losses([ids], self.active)[0])

    def step(self, n_replace: int, width: int, topk: int) -> None:
        """Draw candidates from the kept string of least loss, and keep the best of them."""
        ids = self.pool[0][1]
        top = top_tokens(self.goal.gradient(ids, self.active), self.slot.allowed, topk)
        candidates = self.slot.survivors(self.goal.frames, swaps(ids, top, n_replace, width, self.generator))
        if not candidates:
            return
        found = min(zip(self._losses(candidates).tolist(), candidates, strict=True))
        self.pool = sorted({*self.pool, found})[: self.buffer] if self.buffer else [found]
        self.best = min(self.best, found)

    def solved(self) -> bool:
        """Return whether the best string makes every answer token of the frames in use the first choice."""
        return self.goal.solved(self.best[1], self.active)

    def widen(self) -> None:
        """Take the next frame into use. Losses then mean something else: all that is kept is scored again."""
        self.active += 1
        kept = list(dict.fromkeys((self.best[1], *(ids for _, ids in self.pool), self.start)))
        self.pool = sorted(zip(self.goal.losses(kept, self.active).tolist(), kept, strict=True))
        self.best = self.pool[0]
        self.pool = self.pool[: max(1, self.buffer)]

    def _losses(self, candidates: Sequence[Ids]) -> Tensor:
        """Return [k]; with a draft model inf for those that the model itself did not score."""
        if self.draft is None:
            return self.goal.losses(candidates, self.active)
        from scipy.stats import spearmanr

        cheap = self._by_text(self.draft, candidates)
        losses = torch.full((len(candidates),), torch.inf)

        def score(chosen: Tensor) -> None:
            losses[chosen] = self.goal.losses([candidates[i] for i in chosen.tolist()], self.active)

        score(probes := torch.randperm(len(candidates), generator=self.generator)[: -(-len(candidates) // PROBED)])
        rank = spearmanr(cheap[probes], losses[probes]).statistic if len(probes) > 2 else math.nan
        agreement = 0.0 if math.isnan(rank) else (1 + rank) / 2
        score(cheap.argsort()[: max(1, round((1 - agreement) * len(candidates) / REDUCED))])
        return losses

    def _by_text(self, draft: Subject, candidates: Sequence[Ids]) -> Tensor:
        """Return [k]: the draft model's mean loss of the answers, the strings as texts, in the draft's own tokens."""
        frames = self.goal.frames[: self.active]
        texts = [self.slot.text(ids) for ids in candidates]
        pairs = [placed(frame.pair, text, self.slot.where) for text in texts for frame in frames]
        rows = encode_answers(draft, pairs)
        stats = likelihoods(draft.module, [[row] for row in rows], pad_id(draft.processor), draft.token_budget)
        losses = torch.tensor([-float(found[0].logp.mean()) for found in stats])
        return losses.view(len(candidates), len(frames)).mean(1)


class AnswerLoss:
    """How far the model is from the frames' answers, with a string in their slots.

    The loss of a frame: mean cross-entropy of its answer's n tokens, or with mellowmax = alpha
    (logsumexp(alpha x) - log n) / alpha of their x = -logit (nanoGCG's option). prefix_cache: run what comes before the
    string once for all candidates.
    """

    def __init__(
        self, subject: Subject, frames: Sequence[Frame], mellowmax: float | None = None, prefix_cache: bool = True
    ) -> None:
        self.model, self.token_budget = subject.module, subject.token_budget
        self.frames, self.mellowmax = list(frames), mellowmax
        stateful = getattr(subject.module, "_is_stateful", False)  # recurrent models keep another kind of cache
        cached = prefix_cache and not stateful and not subject.layered  # gates go by the whole prompt
        self._pasts = [self._past(frame) if cached else None for frame in self.frames]

    def losses(self, candidates: Sequence[Ids], frames: int | None = None) -> Tensor:
        """Return [k]: means over the first `frames` (None: all), without gradients; halves batches that do not fit."""
        total = torch.zeros(len(candidates))
        for i in range(len(self.frames))[:frames]:
            vocabulary = self.model.config.get_text_config().vocab_size
            share = self.frames[i].labels * vocabulary / LOGITS

            def rows(batch: list[Ids], i: int = i) -> list[float]:
                with torch.no_grad():
                    return self._loss(*self._scores(i, batch)).tolist()

            found = map_batches(
                rows,
                candidates,
                lambda ids, i=i: len(self.frames[i].before) + len(ids) + len(self.frames[i].after),  # type: ignore[misc]
                self.token_budget,
                share=lambda _, share=share: share,  # type: ignore[misc]
            )
            total += torch.tensor(found)
        return total / len(range(len(self.frames))[:frames])

    def gradient(self, ids: Ids, frames: int | None = None) -> Tensor:
        """Return [n, V]: the gradient of the loss to the one-hot string, mean over the first `frames` frames."""
        chosen = range(len(self.frames))[:frames]
        total = torch.zeros(())
        for i in chosen:
            start = 0 if self._pasts[i] else len(self.frames[i].before)
            place = slice(start, start + len(ids))
            found = one_hot_gradient(self.model, place, lambda i=i: self._loss(*self._scores(i, [ids])).sum())  # type: ignore[misc]
            total = total + found.cpu() / len(chosen)
        return total

    def solved(self, ids: Ids, frames: int | None = None) -> bool:
        """Return whether every token of the first frames' answers is the model's first choice."""
        with torch.no_grad():
            scores = (self._scores(i, [ids]) for i in range(len(self.frames))[:frames])
            return all(bool((logits.argmax(-1) == labels).all()) for logits, labels in scores)

    def _past(self, frame: Frame) -> object | None:
        if not frame.before:
            return None
        with torch.no_grad():
            ids = torch.tensor([frame.before], device=self.model.device)
            with projection_at(self.model, torch.zeros(1, dtype=torch.long, device=ids.device)):
                found: object | None = self.model(input_ids=ids, use_cache=True).past_key_values
                return found

    def _scores(self, i: int, batch: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Return logits [k, labels, V] where the answer's tokens are predicted, and these tokens [labels]."""
        frame, past, device = self.frames[i], self._pasts[i], self.model.device
        before = () if past else frame.before
        ids = torch.tensor([[*before, *string, *frame.after] for string in batch], device=device)
        inputs: dict[str, object] = {"use_cache": False}
        if past:
            past = copy.deepcopy(past)  # the model adds to it
            if len(batch) > 1:
                past.batch_repeat_interleave(len(batch))  # type: ignore[attr-defined]
            inputs = {"past_key_values": past, "use_cache": True}
        width, n = ids.shape[1], frame.labels
        rows = torch.arange(len(batch), device=device)[:, None] * width
        index = rows + torch.arange(width - n - 1, width - 1, device=device)
        with gated_at(self.model, ids, index.flatten()), projection_at(self.model, index.flatten()):
            logits = self.model(input_ids=ids, **inputs).logits[0]
        return precise(logits).unflatten(0, (len(batch), n)), ids[0, -n:]

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return [k] from logits [k, labels, V] and labels [labels]."""
        if self.mellowmax is None:
            return F.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none").mean(1)
        x = -logits.gather(2, labels.expand(len(logits), -1)[..., None])[..., 0]
        return (torch.logsumexp(self.mellowmax * x, 1) - torch.tensor(float(len(labels))).log()) / self.mellowmax
