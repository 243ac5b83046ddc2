"""Strings that are optimised token by token: where they stand, whether they re-encode, their gradient, candidates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearn.attacks.base import Inapplicable
from unlearn.models.interventions.base import gated_at
from unlearn.models.projection import precise, projection_at
from unlearn.models.subject import Subject
from unlearn.score.batching import map_batches
from unlearn.score.likelihood import LOGITS

Where = Literal["suffix", "prefix"]
Ids = tuple[int, ...]
Pair = tuple[str, str]  # a question and the answer that is wanted

_CHUNK = 1 << 14  # rows of the embedding table that meet a gradient at once


def insert(question: str, text: str, where: Where) -> str:
    """The question with an adversarial string after or before it."""
    return f"{question} {text}" if where == "suffix" else f"{text} {question}"


@dataclass(frozen=True)
class Frame:
    """An exchange around the string: the tokens before it and after it, of which the last `labels` are the answer."""

    pair: Pair
    before: Ids
    after: Ids
    labels: int


@dataclass(frozen=True)
class Slot:
    """The place of a string in exchanges with a suspect. A string is a row of tokens that its own text, put into every
    exchange, encodes to again: nothing else could be sent to the model."""

    subject: Subject
    where: Where

    def text(self, ids: Sequence[int]) -> str:
        """The string that these tokens are."""
        return self.subject.processor.batch_decode([list(ids)])[0].strip()

    def start(self, pairs: Sequence[Pair], length: int, allowed: Tensor) -> tuple[Ids, list[Frame]]:
        """`length` times the same word ("x" where that is one token), as tokens and as it stands in each exchange.

        Raises Inapplicable where the tokenizer gives no such string back.
        """
        tokenizer = self.subject.processor
        for word in dict.fromkeys(("x", "!", *(self.text([i]) for i in allowed.tolist()))):
            text = " ".join([word] * length)
            alone = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            if abs(alone - length) <= 1 and (found := self.open(pairs, text, length)):
                return found
        raise Inapplicable(f"no string of {length} tokens comes back from the tokenizer as it went in")

    def open(self, pairs: Sequence[Pair], text: str, length: int | None = None) -> tuple[Ids, list[Frame]] | None:
        """The tokens of a text (`length` of them, where it is given) and how they stand in each exchange; None where
        they do not come back alike in all."""
        question, answer = pairs[0]
        row = self.subject.prompt.encode(self.subject.processor, insert(question, text, self.where), answer)
        ids = self._find(row.ids[: row.n_prompt], text, length)
        if ids is None:
            return None
        frames = [self._frame(pair, ids) for pair in pairs]
        return (ids, [frame for frame in frames if frame]) if all(frames) else None

    def survivors(self, frames: Sequence[Frame], candidates: Sequence[Ids]) -> list[Ids]:
        """Those candidates that their text encodes to again in every exchange, each once, in order."""
        left = list(dict.fromkeys(candidates))
        subject = self.subject
        for frame in frames:
            if not left:
                break
            texts = [text.strip() for text in subject.processor.batch_decode([list(ids) for ids in left])]
            question, answer = frame.pair
            rows = subject.prompt.encode_all(
                subject.processor, [(insert(question, text, self.where), answer) for text in texts]
            )
            left = [ids for ids, row in zip(left, rows, strict=True) if row.ids == (*frame.before, *ids, *frame.after)]
        return left

    def _find(self, prompt: Ids, text: str, length: int | None) -> Ids | None:
        """The shortest run of the prompt's tokens that decodes to `text`."""
        for width in range(1, len(prompt) + 1) if length is None else (length,):
            runs = [prompt[i : i + width] for i in range(len(prompt) - width + 1)]
            texts = self.subject.processor.batch_decode([list(run) for run in runs])
            found = [run for run, decoded in zip(runs, texts, strict=True) if decoded.strip() == text]
            if found:
                return found[-1 if self.where == "suffix" else 0]
        return None

    def _frame(self, pair: Pair, ids: Ids) -> Frame | None:
        question, answer = pair
        row = self.subject.prompt.encode(self.subject.processor, insert(question, self.text(ids), self.where), answer)
        n = len(ids)
        places = [i for i in range(row.n_prompt - n + 1) if row.ids[i : i + n] == ids]
        if not places:
            return None
        at = places[-1 if self.where == "suffix" else 0]
        return Frame(pair, row.ids[:at], row.ids[at + n :], len(row.ids) - row.n_prompt)


def allowed_tokens(subject: Subject) -> Tensor:
    """[n] ids that may be drawn: their text is printable ASCII and not blank; special tokens are left out."""
    tokenizer, special = subject.processor, set(subject.processor.all_special_ids)
    size = min(len(tokenizer), subject.module.config.get_text_config().vocab_size)
    texts = tokenizer.batch_decode([[i] for i in range(size)])
    good = [i for i, t in enumerate(texts) if t.isascii() and t.isprintable() and t.strip() and i not in special]
    return torch.tensor(good)


def one_hot_gradient(model: nn.Module, place: slice, loss: Callable[[], Tensor]) -> Tensor:
    """d loss / d one-hot of the tokens at `place` of a single row: [n, V] float32.

    The embeddings e = one_hot E are linear, so it is (d loss / d e) E^T, with E what the embedding module gives for
    every token (scaled, where it scales). loss: runs the model once, on that row.
    """
    embeddings, leaves = model.get_input_embeddings(), []  # type: ignore[operator]

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = embeddings.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(), leaves)
    finally:
        handle.remove()
    gradient = gradient[0, place].float()
    with torch.no_grad():
        tokens = torch.arange(embeddings.weight.shape[0], device=gradient.device)
        return torch.cat([gradient @ embeddings(chunk).float().T for chunk in tokens.split(_CHUNK)], dim=1)


def top_tokens(gradient: Tensor, allowed: Tensor, k: int) -> Tensor:
    """[n, k] the allowed tokens whose gradient [n, V] is most negative, position by position, on the CPU."""
    among = gradient.cpu()[:, allowed]
    return allowed[among.topk(min(k, len(allowed)), largest=False).indices]


def swaps(ids: Ids, top: Tensor, n_replace: int, width: int, generator: torch.Generator) -> list[Ids]:
    """`width` candidates, each with `n_replace` random positions changed to a random one of their tokens top [n, k]."""
    n = len(ids)
    positions = torch.rand(width, n, generator=generator).argsort(dim=1)[:, : min(n_replace, n)]
    drawn = torch.randint(top.shape[1], positions.shape, generator=generator)
    candidates = torch.tensor(ids).repeat(width, 1).scatter(1, positions, top[positions, drawn])
    return [tuple(row) for row in candidates.tolist()]


class AnswerLoss:
    """How far the model is from the frames' answers, with a string in their slots.

    The loss of a frame: mean cross-entropy of its answer's n tokens, or with mellowmax = alpha
    (logsumexp(alpha x) - log n) / alpha of their x = -logit (nanoGCG's option). prefix_cache: run what comes before the
    string once for all candidates.
    """

    def __init__(
        self, subject: Subject, frames: Sequence[Frame], mellowmax: float | None = None, prefix_cache: bool = True
    ) -> None:
        self.model, self.token_budget, self.frames, self.mellowmax = (
            subject.module,
            subject.token_budget,
            list(frames),
            mellowmax,
        )
        stateful = getattr(subject.module, "_is_stateful", False)  # recurrent models keep another kind of cache
        cached = prefix_cache and not stateful and not subject.layered  # gates go by the whole prompt
        self._pasts = [self._past(frame) if cached else None for frame in self.frames]

    def losses(self, candidates: Sequence[Ids], frames: int | None = None) -> Tensor:
        """[k] mean over the first `frames` (all for None), without gradients; batches halve where memory runs out."""
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
        """[n, V] of the loss to the one-hot string, mean over the first `frames` frames."""
        chosen = range(len(self.frames))[:frames]
        total = torch.zeros(())
        for i in chosen:
            start = 0 if self._pasts[i] else len(self.frames[i].before)
            place = slice(start, start + len(ids))
            found = one_hot_gradient(self.model, place, lambda i=i: self._loss(*self._scores(i, [ids])).sum())  # type: ignore[misc]
            total = total + found.cpu() / len(chosen)
        return total

    def solved(self, ids: Ids, frames: int | None = None) -> bool:
        """Whether every token of the first frames' answers is the model's first choice."""
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
        """Logits [k, labels, V] where the answer's tokens are predicted, and these tokens [labels]."""
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
        """[k]"""
        if self.mellowmax is None:
            return F.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none").mean(1)
        x = -logits.gather(2, labels.expand(len(logits), -1)[..., None])[..., 0]
        return (torch.logsumexp(self.mellowmax * x, 1) - torch.tensor(float(len(labels))).log()) / self.mellowmax
