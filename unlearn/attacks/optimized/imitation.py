"""How far a model with a string in its prompt is from what the original model says and computes without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearn.attacks.optimized.tokens import Frame, Ids, one_hot_gradient
from unlearn.models.layout import layout
from unlearn.models.projection import precise
from unlearn.models.sites import edited, logits_at
from unlearn.models.subject import Subject
from unlearn.score.batching import map_batches
from unlearn.score.generate import generate
from unlearn.score.likelihood import LOGITS


@dataclass(frozen=True)
class Weights:
    """Of the terms of ImitationLoss; forced: how many of the original's tokens are taken as they are."""

    forced: int
    distance: float
    fluency: float
    repetition: float


@dataclass(frozen=True)
class Shown:
    """What the original does with one exchange: log-probabilities [labels, V] where its continuation is predicted, and
    its residual stream [T, d] at one layer."""

    logp: Tensor
    stream: Tensor


def continuations(original: Subject, questions: Sequence[str], tokens: int) -> list[tuple[str, str]]:
    """(question, what the original says to it in at most so many tokens), those left out where it says nothing."""
    prompts = original.prompt.encode_prompts(original.processor, questions)
    texts = generate(original.module, original.processor, prompts, tokens, original.token_budget)
    return [(question, text) for question, text in zip(questions, texts, strict=True) if text]


def shown(original: Subject, pairs: Sequence[tuple[str, str]], depth: float) -> list[Shown]:
    """The original's run of each exchange, without any string; depth: the layer, as a fraction of all."""
    model, found = original.module, []
    for row in original.prompt.encode_all(original.processor, pairs):
        ids = torch.tensor([row.ids], device=model.device)
        index = torch.arange(row.n_prompt - 1, len(row.ids) - 1, device=ids.device)
        with torch.no_grad():
            logits, stream = _run(original, ids, index, depth)
        found.append(Shown(torch.log_softmax(logits, -1), stream[0]))
    return found


class ImitationLoss:
    """Per string, mean over frames of
      the cross-entropy of the original's continuation (its first `forced` tokens as they are, then its distribution)
      + distance * mean over tokens after the string |h - h_o|^2 / mean |h_o|^2, h the residual stream at `depth`
      + fluency * the mean nll of the string's own tokens under the model;
    + repetition * the share of tokens that occurred before in the string.
    The reference implementation takes |h - h_o|^2 itself, which depends on the model's scale.
    """

    def __init__(
        self, subject: Subject, frames: Sequence[Frame], teacher: Sequence[Shown], depth: float, weights: Weights
    ) -> None:
        self.subject, self.frames, self.teacher = subject, list(frames), list(teacher)
        self.depth, self.weights = depth, weights

    def losses(self, candidates: Sequence[Ids]) -> Tensor:
        """[k], strings of the same length; batches halve where memory runs out."""
        total = self.weights.repetition * torch.tensor([1 - len(set(ids)) / len(ids) for ids in candidates])
        for i, frame in enumerate(self.frames):
            share = (
                (frame.labels + len(candidates[0])) * self.subject.module.config.get_text_config().vocab_size / LOGITS
            )

            def rows(batch: list[Ids], i: int = i) -> list[float]:
                with torch.no_grad():
                    return self._loss(i, batch).tolist()

            found = map_batches(
                rows,
                candidates,
                lambda ids, frame=frame: len(frame.before) + len(ids) + len(frame.after),  # type: ignore[misc]
                self.subject.token_budget,
                share=lambda ids, share=share: share,  # type: ignore[misc]
            )
            total = total + torch.tensor(found) / len(self.frames)
        return total

    def gradient(self, ids: Ids) -> Tensor:
        """[n, V] to the one-hot string, repetition left out (it has none)."""
        total = torch.zeros(())
        for i, frame in enumerate(self.frames):
            place = slice(len(frame.before), len(frame.before) + len(ids))
            found = one_hot_gradient(self.subject.module, place, lambda i=i: self._loss(i, [ids]).sum())  # type: ignore[misc]
            total = total + found.cpu() / len(self.frames)
        return total

    def _loss(self, i: int, batch: Sequence[Ids]) -> Tensor:
        frame, teacher, device = self.frames[i], self.teacher[i], self.subject.module.device
        ids = torch.tensor([[*frame.before, *string, *frame.after] for string in batch], device=device)
        k, width = ids.shape
        start, n, labels = len(frame.before), len(batch[0]), frame.labels
        spoken = torch.arange(max(start, 1) - 1, start + n - 1, device=device)  # what predicts the string's tokens
        answering = torch.arange(width - labels - 1, width - 1, device=device)
        index = (torch.arange(k, device=device)[:, None] * width + torch.cat([spoken, answering])).flatten()
        logits, stream = _run(self.subject, ids, index, self.depth)
        logits = logits.unflatten(0, (k, -1))
        own, said = logits[:, : len(spoken)], torch.log_softmax(logits[:, len(spoken) :], -1)
        fluency = F.cross_entropy(own.transpose(1, 2), ids[:, spoken + 1], reduction="none").sum(1) / max(
            len(spoken), 1
        )
        forced = min(self.weights.forced, labels)
        nll = -said[:, :forced].gather(2, ids[:, -labels:][:, :forced, None])[..., 0].sum(1)
        matched = -(teacher.logp.exp()[forced:] * said[:, forced:]).sum((1, 2))
        after = min(len(frame.after), len(teacher.stream))  # both end in the same tokens
        aim = teacher.stream[-after:]
        distance = (stream[:, -after:] - aim).square().sum(-1).mean(1) / aim.square().sum(-1).mean()
        return (nll + matched) / labels + self.weights.distance * distance + self.weights.fluency * fluency


def _run(subject: Subject, ids: Tensor, index: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    """Logits [n, V] at flat positions and the residual stream [B, T, d] at a depth, both at least float32."""
    parts, seen = layout(subject.module), []
    site = parts.blocks[max(0, round(depth * len(parts.blocks)) - 1)].sites["resid"]

    def look(h: Tensor) -> None:
        seen.append(h)

    with edited((site, look)):
        logits = logits_at(subject.module, ids, index)
    return logits, precise(seen[0])
