"""Probes that tell true statements from false ones by a model's hidden states, all layers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn.attacks.setting.putting import encode_answers
from unlearn.score.linear_probe import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearn.data.task import Question
    from unlearn.models.subject import Subject

FEW = 100  # statements: with fewer, a difference of means generalises better than a fitted map
FOLDS = 5


@dataclass(frozen=True)
class Statements:
    """Questions with an answer each, one true answer and several false ones for every item."""

    ids: tuple[tuple[int, ...], ...]
    """Token ids of each, up to the answer's last."""
    item: Tensor
    """Which item each is about, int64 [n], from 0 on."""
    true: Tensor
    """Whether it is true, bool [n]."""

    @property
    def options(self) -> Tensor:
        """Return how many statements each item has: [items]."""
        return torch.bincount(self.item)

    def permuted(self, generator: torch.Generator) -> Tensor:
        """Return `true`, with a random statement of each item in the place of the true one."""
        drawn = torch.zeros_like(self.true)
        for i in range(len(self.options)):
            mine = (self.item == i).nonzero()[:, 0]
            drawn[mine[torch.randint(len(mine), (), generator=generator)]] = True
        return drawn


def statements(subject: Subject, probes: Sequence[Question], most: int) -> Statements:
    """Return the answer and at most `most` wrong ones of each probe, in one wording.

    Wrong answers are variants of the paraphrased answer, where there is one. EOS and what chat templates put after the
    answer is left out.
    """
    rows, item, true = [], [], []
    for i, probe in enumerate(probes):
        options = (probe.paraphrased_answer or probe.answer, *probe.perturbed_answers[:most])
        rows += [(probe, text) for text in options]
        item += [i] * len(options)
        true += [k == 0 for k in range(len(options))]
    special = set(subject.processor.all_special_ids)
    ids = [_stripped(row.ids, row.n_prompt, special) for row in encode_answers(subject, rows)]
    return Statements(tuple(ids), torch.tensor(item), torch.tensor(true))


def _stripped(ids: tuple[int, ...], n_prompt: int, special: set[int]) -> tuple[int, ...]:
    """Return the ids up to the last answer token before the first special one (at least one)."""
    end = next((i for i in range(n_prompt + 1, len(ids)) if ids[i] in special), len(ids))
    return ids[:end]


def truth_scores(features: Tensor, true: Tensor, new: Tensor) -> Tensor:
    """Return [L, m]: how true statements `new` [L, m, d] look to a probe trained on features [L, n, d] and `true` [n].

    Ridge regression to the label (score/linear_probe.py); with fewer than 100 statements, along the difference of the
    means of true and false statements (Marks and Tegmark 2024, arXiv 2310.06824). Both on features standardised in
    training.
    """
    if len(true) >= FEW:
        return fit(features, true.long(), classes=2).scores(new)[..., 1]
    x = features.double()
    mean, std = x.mean(-2, keepdim=True), x.std(-2, keepdim=True, correction=0)
    std = torch.where(std > 0, std, 1.0)
    z = (x - mean) / std
    along = z[..., true, :].mean(-2) - z[..., ~true, :].mean(-2)
    return ((new.double() - mean) / std * along[..., None, :]).sum(-1)


def right_choices(scores: Tensor, asked: Statements) -> Tensor:
    """Return whether the true statement of each item has its highest score: [L, items], ties shared; scores [L, n]."""
    right = []
    for i in range(len(asked.options)):
        mine = asked.item == i
        best = scores[:, mine] == scores[:, mine].amax(-1, keepdim=True)
        right.append((best & asked.true[mine]).sum(-1) / best.sum(-1).clamp_min(1))
    return torch.stack(right, -1)


def beyond_chance(right: Tensor, options: Tensor) -> Tensor:
    """Return (right - 1 / m) / (1 - 1 / m), with m the number of options of each item; nan for m = 1."""
    chance = 1 / options
    return torch.where(options > 1, (right - chance) / (1 - chance), torch.nan)


def cross_validated(features: Tensor, own: Statements) -> Tensor:
    """Return `right_choices` [L, items] of probes that were not trained on the item's fold: features [L, n, d]."""
    items = len(own.options)
    right = features.new_zeros(features.shape[0], items)
    for fold in range(min(FOLDS, items)):
        held_items = torch.arange(items) % min(FOLDS, items) == fold
        held = held_items[own.item]
        scores = truth_scores(features[:, ~held], own.true[~held], features[:, held])
        every = torch.zeros(features.shape[:2], dtype=scores.dtype)
        every[:, held] = scores
        right[:, held_items] = right_choices(every, own)[:, held_items].to(right)
    return right
