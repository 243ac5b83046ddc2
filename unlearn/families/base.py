"""What the pipeline asks of a model family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat
    from unlearn.data.task import Modality, Role, Row, Task
    from unlearn.models.base import Threads
    from unlearn.models.policy import Policy
    from unlearn.recipe import Recipe
    from unlearn.training.objective import Objective


class Loaded(NamedTuple):
    """A model with what turns its inputs into tokens."""

    module: PreTrainedModel
    processor: PreTrainedTokenizerBase


class ModelFamily(Protocol):
    """A starting point for original and control models: a small frozen dataclass in conf/model.

    How its models are loaded, run, taught and saved is asked of the family alone: their files are its own business.
    """

    modality: ClassVar[Modality]
    """What kind of tasks it is for."""
    version: ClassVar[int]
    """Raised when what it starts from changes."""

    @property
    def prompt(self) -> PromptFormat:
        """Return how it is asked."""
        ...

    @property
    def finetune(self) -> Recipe:
        """Return how original and control models are trained where none is published."""
        ...

    @property
    def threads(self) -> Threads | None:
        """Return how many CPU threads it gets, None for all cores."""
        ...

    @property
    def source(self) -> str | None:
        """Return hub id or folder of the pretrained weights that it starts from; None where they are random."""
        ...

    def key(self, task: Task) -> dict[str, Any]:
        """Return what decides the starting weights and the tokenizer, for cache keys."""
        ...

    def published(self, task: Task, role: Role) -> str | None:
        """Return hub id or folder of a released original or control checkpoint for this task, None where there is none.

        A model that learned nothing by the task's history is what the family starts from.
        """
        ...

    def check_rows(self, task: Task) -> None:
        """UserError where a row or probe of the task is nothing that the model can read; no weights are loaded."""
        ...

    def start(self, task: Task, seed: int) -> Loaded:
        """Return what training of original and control starts from, in float32 on the CPU."""
        ...

    def load(self, path: str) -> Loaded:
        """Return a saved or published model, in float32 on the CPU, in eval mode; UserError where it can't be had."""
        ...

    def save(self, loaded: Loaded, folder: Path, base: str | None = None, variant: str = "") -> None:
        """Write what `load` reads into a folder.

        base: hub id or folder of the weights below the model's layers, where it has any. variant: see Subject.
        """
        ...

    def policy(self, module: Any) -> Policy:
        """Return the way in which training runs a model of this family."""
        ...

    def objective(self, rows: Sequence[Row], processor: Any, recipe: Recipe, seed: int) -> Objective:
        """Return what a model minimises to learn rows; UserError where it can't learn one of them."""
        ...
