"""The two forms of a soft prompt: vectors in the place of tokens, and one more attention head over learned keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.attacks.optimized.fitting import clip_rows
from unlearn.data.prompt import PromptFormat
from unlearn.models.subject import Subject


@dataclass(frozen=True)
class Held(PromptFormat):
    """A prompt format with `count` placeholder tokens held in every row from position `at` on, where a hook on the
    embeddings puts vectors: generation and scoring then need to know nothing of them."""

    at: int = 0
    token: int = 0
    count: int = 0

    def _ids(self, tokenizer: Any, pairs: Sequence[tuple[str, str | None]]) -> list[list[int]]:
        rows = super()._ids(tokenizer, pairs)
        return [[*row[: self.at], *[self.token] * self.count, *row[self.at :]] for row in rows]


class InputVectors:
    """m vectors in front of the question, as the embedding module would give them for m tokens.

    They start as the embeddings of m random tokens, and are at most epsilon times the mean embedding long.
    """

    def __init__(self, subject: Subject, m: int, epsilon: float, seed: int) -> None:
        table = _table(subject)
        self.norm = epsilon * table.norm(dim=1).mean()
        drawn = torch.randint(len(table), (m,), generator=torch.Generator().manual_seed(seed))
        self.vectors = clip_rows(table[drawn.to(table.device)], self.norm).requires_grad_()
        given = {field.name: getattr(subject.prompt, field.name) for field in fields(PromptFormat)}
        lead = _lead(subject)
        self.subject = replace(subject, prompt=Held(**given, at=len(lead), token=_spare_token(subject, lead), count=m))

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The vectors [m, d]."""
        return [self.vectors]

    def project(self) -> None:
        """Shorten what is too long."""
        self.vectors.data = clip_rows(self.vectors.data, self.norm)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Rows with placeholders get the vectors there; tokens generated one by one stay as they are."""
        held = self.subject.prompt
        assert isinstance(held, Held)

        def fill(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            (ids,) = inputs
            placeholder = ids == held.token
            rank = placeholder.cumsum(1)
            there = placeholder & (rank <= held.count) & (placeholder.sum(1, keepdim=True) >= held.count)
            if ids.shape[1] == 1 or not there.any():
                return output
            vectors = self.vectors[(rank - 1).clamp(0, held.count - 1)].to(output.dtype)
            return torch.where(there[..., None], vectors, output)

        handle = self.subject.module.get_input_embeddings().register_forward_hook(fill)
        try:
            yield
        finally:
            handle.remove()


class ExtraHead:
    """h + softmax(h Q K^T / sqrt(d)) V at the embeddings' output h [B, T, d], with learned Q [d, d], K and V [m, d].

    Keys and values are at most epsilon times the mean embedding long; all start random, values near 0.
    """

    def __init__(self, subject: Subject, m: int, epsilon: float, seed: int) -> None:
        table = _table(subject)
        d, generator = table.shape[1], torch.Generator().manual_seed(seed)
        self.norm = epsilon * table.norm(dim=1).mean()

        def drawn(n: int) -> Tensor:
            found: Tensor = torch.randn(n, d, generator=generator).to(table) / d**0.5
            return found

        self.query, self.keys = drawn(d).requires_grad_(), clip_rows(drawn(m), self.norm).requires_grad_()
        self.values = clip_rows(0.01 * drawn(m), self.norm).requires_grad_()
        self.subject = subject

    @property
    def parameters(self) -> Sequence[Tensor]:
        """Q, K, V."""
        return [self.query, self.keys, self.values]

    def project(self) -> None:
        """Shorten keys and values that are too long."""
        for tensor in (self.keys, self.values):
            tensor.data = clip_rows(tensor.data, self.norm)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Every token's embedding attends to the keys."""

        def read(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            h = output.to(self.query.dtype)
            weights = torch.softmax(h @ self.query @ self.keys.T / h.shape[-1] ** 0.5, dim=-1)
            return output + (weights @ self.values).to(output.dtype)

        handle = self.subject.module.get_input_embeddings().register_forward_hook(read)
        try:
            yield
        finally:
            handle.remove()


@torch.no_grad()
def _table(subject: Subject) -> Tensor:
    """[V, d] float32: what the embedding module gives for every token, scaled where it scales."""
    embeddings = subject.module.get_input_embeddings()
    size = min(len(subject.processor), subject.module.config.get_text_config().vocab_size)
    found: Tensor = embeddings(torch.arange(size, device=subject.module.device)).float()
    return found


def _lead(subject: Subject) -> list[int]:
    """The tokens that every prompt begins with, before its question."""
    rows = subject.prompt.encode_prompts(subject.processor, ["0", "What?", "a", "Zebras"])
    alike = [len(set(column)) == 1 for column in zip(*rows, strict=False)]
    return rows[0][: alike.index(False)]


def _spare_token(subject: Subject, lead: Sequence[int]) -> int:
    """The last token that is neither special nor in the lead; those in questions come after the placeholders."""
    taken = {*subject.processor.all_special_ids, *lead}
    size = min(len(subject.processor), subject.module.config.get_text_config().vocab_size)
    return next(i for i in range(size - 1, -1, -1) if i not in taken)
