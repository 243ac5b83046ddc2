"""Patching against the original: how deep inside the model the change lies. A diagnostic, not an attack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unlearn.attacks.base import AttackResult, AttackSetting, Outcome, Threat
from unlearn.attacks.setting.putting import map_prompts
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from unlearn.attacks.setting.answer_tokens import AnswerToken
    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Patch:
    """Put the original model's hidden states into the model, and the model's into the original.

    Activation patching (on unlearned models Hong et al. 2024, arXiv 2410.06606), after block l, at all tokens of the
    prompt. K = 1 / rank of the fact's first token in what comes out.

    "into": the original's blocks up to l, then the model's: does what is above l still say it? "out of": the model's up
    to l, then the original's: is it still there below? An upper bound, as it takes the original model: it does not
    count for the worst case. The table `patch` has, by layer and direction, score (mean K) and log_rank (mean natural
    logarithm of the rank) of the held-out items.
    """

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "diagnostic"
    reference: ClassVar[str] = "arXiv 2410.06606"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "reference"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome per direction and layer."""
        import pandas as pd

        from unlearn.attacks.setting.answer_tokens import answer_tokens

        answers = map_prompts(partial(answer_tokens, subject.processor), subject, setting.questions)
        original = references.original().module
        outcomes, rows = [], []
        for direction, giver, taker in (
            ("into", original, subject.module),
            ("out of", subject.module, original),
        ):
            for layer, rank in enumerate(patched_ranks(giver, taker, answers, subject.token_budget).numpy()):
                outcomes.append(Outcome(f"{direction} {layer}", 1 / rank, counts=False, with_original=True))
                means = {"score": (1 / rank).mean(), "log_rank": np.log(rank).mean()}
                rows.append({"layer": layer, "direction": direction, **means})
        return AttackResult(
            outcomes,
            "",
            f"{len(outcomes)} forwards an item",
            "1/rank",
            tables={"patch": _explained(pd.DataFrame(rows))},
        )


def patched_ranks(giver: nn.Module, taker: nn.Module, answers: list[AnswerToken], token_budget: int) -> Tensor:
    """Return [L, n]: the rank of each answer token where block l of `taker` gives what that of `giver` gave."""
    import torch

    from unlearn.attacks.internals.readout import rank_in
    from unlearn.models.layout import layout
    from unlearn.models.prompts import collate
    from unlearn.models.sites import Edit, at_rest, capture, edited, logits_at
    from unlearn.score.batching import map_batches

    theirs, mine = layout(giver), layout(taker)
    device, keys = next(taker.parameters()).device, [(layer, "resid") for layer in range(len(mine.blocks))]

    def given(state: Tensor) -> Edit:
        return lambda here: state.view_as(here).to(here.dtype)

    def run(batch: list[AnswerToken]) -> list[Tensor]:
        inputs, tokens = (
            collate([answer.ids for answer in batch], device),
            torch.tensor([answer.token for answer in batch]),
        )
        states = capture(giver, theirs, keys, inputs)[1]
        found = []
        for key in keys:
            with torch.no_grad(), edited((mine.site(*key), given(states[key]))):
                found.append(rank_in(logits_at(taker, inputs.ids, inputs.index), tokens))
        return list(torch.stack(found, 1))

    budget = max(1, token_budget // len(keys))  # all layers' states of a batch are held
    with at_rest(giver), at_rest(taker):
        return torch.stack(map_batches(run, answers, lambda answer: len(answer.ids), budget), 1)


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "How well the fact can be said when the hidden states of one model go on in the other, from each layer on. "
        "Left, with the original below: where the unlearned model is low, its later layers hold the fact back. Right, "
        "with the original above: where it is high, its earlier layers still have the fact."
    )
    called = {"into": "Original below, model above", "out of": "Model below, original above"}
    called["score"] = "mean 1 / rank of the fact"
    return Explained(table, "Patching", words, Chart("line", "layer", ("score",), panel="direction", words=called))
