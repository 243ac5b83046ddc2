"""What a model knows before any task is made of it: how it goes on after a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unlearn.score.generate import pad_id
from unlearn.score.likelihood import likelihoods

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat


def first_token_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: PromptFormat,
    pairs: Sequence[tuple[str, str]],
    token_budget: int = 16384,
    progress: Callable[[int], object] | None = None,
) -> list[float]:
    """Return for each (question, answer) the probability of the answer's first token: [pairs].

    Answers to one question share its prompt. progress: called with the number of questions done since the last call.
    """
    encoded = prompt.encode_all(tokenizer, pairs)
    groups: dict[str, list[int]] = {}
    for i, (question, _) in enumerate(pairs):
        groups.setdefault(question, []).append(i)
    rows = [[encoded[i] for i in group] for group in groups.values()]
    stats = likelihoods(model, rows, pad_id(tokenizer), token_budget, progress=progress)
    found = {
        i: float(np.exp(candidate.logp[0]))
        for group, scored in zip(groups.values(), stats, strict=True)
        for i, candidate in zip(group, scored, strict=True)
    }
    return [found[i] for i in range(len(pairs))]
