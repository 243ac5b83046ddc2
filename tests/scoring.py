"""All scorers of this package at once, as most tests ask a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unlearn.models.subject import References, Subject
from unlearn.score.base import Scorer, Wording
from unlearn.score.generations import Generations
from unlearn.score.gradients import Gradients
from unlearn.score.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Task


@dataclass(frozen=True)
class Scoring:
    """The scorers with fields in common, and which of them are asked."""

    token_budget: int = 16384
    share_prefix: bool = True
    mask_pad: bool = False
    question: Wording = "canonical"
    max_new_tokens: int | None = None
    generate: bool = True
    gradients: bool = False
    limit: int | None = None

    @property
    def scorers(self) -> list[Scorer]:
        """Those that are asked, in the order of a run."""
        found: list[Scorer] = [Tokens(self.share_prefix, self.mask_pad, self.question)]
        found += [Generations(self.mask_pad, self.question, self.max_new_tokens)] if self.generate else []
        return found + ([Gradients(self.mask_pad, self.question)] if self.gradients else [])

    def score(
        self,
        model: Any,
        tokenizer: Any,
        prompt: PromptFormat,
        task: Task,
        progress: Callable[[int], object] | None = None,
    ) -> dict[str, pd.DataFrame]:
        """Return the tables of one model by name."""
        subject = Subject("original", model, tokenizer, prompt, self.token_budget)
        asked = replace(task, probes=tuple(replace(one, probes=one.probes[: self.limit]) for one in task.probes))
        alone = References(lambda: subject, lambda: None)
        return {
            name: table.frame
            for scorer in self.scorers
            for name, table in scorer.score(subject, asked, alone, progress).items()
        }
