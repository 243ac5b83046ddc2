"""What all families of causal language models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Modality, Row
from unlearn.families.base import Loaded
from unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unlearn.models.policy import Policy
    from unlearn.training.objective import Objective


@dataclass(frozen=True)
class CausalLM:
    """A family whose models are transformers' causal language models, each with its tokenizer."""

    modality: ClassVar[Modality] = "text"

    prompt: PromptFormat
    """How it is asked."""
    finetune: Recipe
    """How original and control models are trained where none is published."""

    def load(self, path: str) -> Loaded:
        """Return a causal LM and its tokenizer."""
        from unlearn.models.loading import load_model, load_tokenizer

        return Loaded(load_model(path), load_tokenizer(path))

    def save(self, loaded: Loaded, folder: Path, base: str | None = None, variant: str = "") -> None:
        """Write a model folder, in layers where the model has any."""
        from unlearn.models.loading import save_model

        save_model(loaded.module, loaded.processor, folder, base, variant)

    def policy(self, module: Any) -> Policy:
        """Return the one of causal LMs."""
        from unlearn.models.policy import Policy

        return Policy(module)

    def objective(self, rows: Sequence[Row], processor: Any, recipe: Recipe, seed: int) -> Objective:
        """Return the nll of answers and texts."""
        from unlearn.training.supervised import answers

        return answers(rows, processor, self.prompt, recipe, seed)
