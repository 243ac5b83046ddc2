"""Plain training on answers: original and control models, the audit's pools, and relearning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.data.prompt import Encoded, PromptFormat, encode_text
from unlearn.data.task import Example
from unlearn.methods.finetune import Finetune
from unlearn.recipe import Recipe
from unlearn.training.checkpoint import Log
from unlearn.training.loop import Evaluate, train
from unlearn.training.plan import Plan, plan_training

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def plan_answers(
    rows: Sequence[Example | str], tokenizer: PreTrainedTokenizerBase, prompt: PromptFormat, recipe: Recipe, seed: int
) -> Plan:
    """Which rows each step sees. Answers are labelled; of a bare text, all tokens but the first."""

    def encode(question: str, answer: str) -> Encoded:
        if not question:
            return encode_text(tokenizer, answer, separator="", max_tokens=prompt.max_tokens)
        return prompt.encode(tokenizer, question, answer)

    examples = [Example(("",), (row,)) if isinstance(row, str) else row for row in rows]
    return plan_training(examples, encode, recipe, seed)


def train_answers(
    model: nn.Module,
    plan: Plan,
    recipe: Recipe,
    folder: Path,
    seed: int,
    evaluate: Evaluate | None = None,
    advance: Callable[..., None] = lambda *args, **parts: None,
    notify: Callable[[str], Any] = lambda line: None,
) -> Log:
    """`train` on the mean token loss of the plan's rows."""
    return train(model, plan, Finetune(), recipe, folder, seed, evaluate=evaluate, advance=advance, notify=notify)
