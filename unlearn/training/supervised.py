"""Plain training on answers: original and control models, the audit's pools, and relearning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlearn.data.prompt import Encoded, PromptFormat, encode_text
from unlearn.data.task import Example, ImageExample, Passage, Row
from unlearn.models.policy import Policy
from unlearn.runtime.errors import UserError
from unlearn.training.loop import Setup, Watch, train
from unlearn.training.objective import Loss, Side, Term
from unlearn.training.plan import Plan, plan_training
from unlearn.training.planned import Planned

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from unlearn.models.batches import Batch
    from unlearn.recipe import Recipe
    from unlearn.training.checkpoint import Log


def answers(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, recipe: Recipe, seed: int
) -> Answers:
    """Return the nll of answers and texts, which language models minimise to learn rows.

    UserError where a row is neither.
    """
    return Answers(plan_answers([_readable(row) for row in rows], tokenizer, prompt, recipe, seed))


def _readable(row: Row) -> Example | str:
    if isinstance(row, ImageExample):
        raise UserError("a language model learns no pictures: the history's sets must be text")
    return row.text if isinstance(row, Passage) else row


class Answers(Planned):
    """TOK, the nll of the rows of each segment, averaged over all of the step's answer tokens (nats)."""

    def __init__(self, plan: Plan, side: Side = "retain") -> None:
        """Belong to a side: "retain" is what a model learns or keeps."""
        super().__init__(plan)
        self.side = side

    def loss(self, policy: Any, batch: Batch, only: Collection[Side]) -> Loss:
        """Return the token means, as terms of the side."""
        if self.side not in only:
            return Loss({})
        return Loss({name: Term(1.0, scores.token_mean(), self.side) for name, scores in policy(batch).items()})


def plan_answers(
    rows: Sequence[Example | str], tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, recipe: Recipe, seed: int
) -> Plan:
    """Plan which rows each step sees. Answers are labelled; of a bare text, all tokens but the first."""

    def encode(question: str, answer: str) -> Encoded:
        if not question:
            return encode_text(tokenizer, answer, separator="", max_tokens=prompt.max_tokens)
        return prompt.encode(tokenizer, question, answer)

    examples = [Example(("",), (row,)) if isinstance(row, str) else row for row in rows]
    return plan_training(examples, encode, recipe, seed)


def train_answers(model: nn.Module, plan: Plan, setup: Setup, folder: Path, watch: Watch | None = None) -> Log:
    """Run `train` on the mean token loss of the plan's rows."""
    return train(Policy(model), Answers(plan), setup, folder, watch)
