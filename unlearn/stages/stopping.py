"""When a training of original or control ends before its recipe's length: as its history says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlearn.data.history import Until
from unlearn.data.task import ProbeSet, Task
from unlearn.runtime import distributed

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat


@dataclass(frozen=True)
class Stop:
    """A rule, and what the model is asked by it."""

    until: Until
    """The rule."""
    asked: ProbeSet
    """The probes that it names."""

    @classmethod
    def of(cls, until: Until | None, task: Task) -> Stop | None:
        """Return the rule with the task's probes, None where there is no rule."""
        if until is None:
            return None
        (asked,) = [found for found in (*task.probes, *task.validation) if found.name == until.probes]
        return cls(until, asked)

    def enough(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, token_budget: int
    ) -> Callable[[int], bool]:
        """Return what says, alike on all ranks, after how many steps the model answers well enough."""

        def ask(step: int) -> bool:
            if step % self.until.every:
                return False
            model.eval()
            found = self.probability(model, tokenizer, prompt, token_budget) if distributed.is_main() else 0.0
            model.train()
            known: float = distributed.from_main(found)
            return known >= self.until.probability

        return ask

    def probability(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, token_budget: int
    ) -> float:
        """Return the mean over probes of the right answer's probability (geometric mean over its tokens)."""
        from unlearn.score.generate import pad_id
        from unlearn.score.likelihood import likelihoods

        pairs = [(probe.question, probe.answer) for probe in self.asked.probes]
        rows = (self.asked.prompt or prompt).encode_all(tokenizer, pairs)
        found = likelihoods(model, [[row] for row in rows], pad_id(tokenizer), token_budget)
        return sum(math.exp(float(stats.logp.mean())) for (stats,) in found) / len(found)
