"""What the datasets of localised editing share: splits, what the model knows, and multiple choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from unlearn.data.task import Ask, Question
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

LETTERS = ("A", "B", "C", "D")

Row = TypeVar("Row")


def first_or_random(split: str, n: int) -> list[int]:
    """Which of n rows `split` means: "first_16", "random_64". A random draw's seed is its size, as published."""
    kind, _, size = split.partition("_")
    if kind == "first":
        return list(range(n))[: int(size)]
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(int(size)))[: int(size)].tolist()


def maintained(rows: Sequence[Row], gone: Collection[int]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the rows that are not in `gone`, in order: the first 80% to train on, and the rest to ask about."""
    kept = [row for i, row in enumerate(rows) if i not in gone]
    train = len(kept) * 4 // 5
    return kept[:train], kept[train:]


def probabilities(ask: Ask | None, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
    """Return what `ask` answers; UserError where there is no model to ask."""
    if ask is None:
        raise UserError("'dataset.known' is set, but there is no model to ask what it knows: use dataset.known=null")
    return ask(pairs)


def multiple_choice(question: str, options: Sequence[str], answer: str, cluster: str) -> list[Question]:
    """Return the same question four times, each of the four options once under each letter.

    So a liking for a letter cancels out. The lines of options take the place of {options} in `question`;
    the letter of `answer` is right.
    """
    probes = []
    for shift in range(len(LETTERS)):
        turned = [*options[shift:], *options[:shift]]
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, turned, strict=True))
        right = LETTERS[turned.index(answer)]
        wrong = tuple(f" {letter}" for letter in LETTERS if letter != right)
        asked = question.replace("{options}", lines)
        probes.append(Question(asked, f" {right}", perturbed_answers=wrong, cluster=cluster))
    return probes
